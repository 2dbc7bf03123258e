"""Label files and features as they come: read, or named with their line; never another label."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mambabench.benchmarks.depression import daic_woz, dvlog, e_daic, lmvd
from mambabench.benchmarks.sentiment.mmsa import read_utterances
from mambabench.errors import DataError

DAIC = {
    "train_split_Depression_AVEC2017.csv": "Participant_ID,PHQ8_Score,Gender\n300,{},1\n301,12,0\n",
    "dev_split_Depression_AVEC2017.csv": "Participant_ID,PHQ8_Score,Gender\n310,9,1\n",
    "full_test_split.csv": "Participant_ID,PHQ_Score,Gender\n320,10,0\n",
}
E_DAIC = {
    "train_split.csv": "Participant_ID,Gender,PHQ_Score\n300,male,{}\n",
    "dev_split.csv": "Participant_ID,Gender,PHQ_Score\n310,female,9\n",
    "test_split.csv": "Participant_ID,Gender,PHQ_Score\n320,male,10\n",
}


def written(folder: Path, files: dict[str, str], value: str) -> Path:
    for name, text in files.items():
        (folder / name).write_text(text.format(value) if "{}" in text else text)
    return folder


@pytest.mark.parametrize(
    ("corpus", "files"), [(daic_woz, DAIC), (e_daic, E_DAIC)], ids=["daic", "e_daic"]
)
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nan", "is 'nan', not a finite number"),
        ("NaN", "is 'NaN', not a finite number"),
        ("", "is '', not a number"),
        ("25", r"is '25', outside 0 to 24 \(PHQ-8\)"),
        ("-1", "is '-1', outside 0 to 24"),
        ("ten", "is 'ten', not a number"),
    ],
)
def test_a_severity_that_is_none(
    tmp_path: Path, corpus: object, files: dict[str, str], value: str, message: str
) -> None:
    folder = written(tmp_path, files, value)
    with pytest.raises(DataError, match=rf"\.csv, line 2: PHQ\w*_Score {message}"):
        corpus.read_sessions(folder)  # type: ignore[attr-defined]


def test_a_severity_that_a_spreadsheet_wrote(tmp_path: Path) -> None:
    sessions = daic_woz.read_sessions(written(tmp_path, DAIC, "10.0"))
    assert [(s.name, s.label) for s in sessions] == [
        ("300", 1),
        ("301", 1),
        ("310", 0),
        ("320", 1),
    ]


@pytest.mark.parametrize("name", ["train_split_Depression_AVEC2017.csv", "full_test_split.csv"])
def test_a_session_that_stands_twice(tmp_path: Path, name: str) -> None:
    folder = written(tmp_path, DAIC, "3")
    with (folder / name).open("a") as file:
        file.write("301,12,0\n")
    with pytest.raises(DataError, match=rf"{name}, line \d: session 301 stands there twice"):
        daic_woz.read_sessions(folder)


@pytest.mark.parametrize("ident", ["nan", "", "x12", "300.5"])
def test_a_session_without_a_number(tmp_path: Path, ident: str) -> None:
    folder = written(tmp_path, {**DAIC, "full_test_split.csv": "Participant_ID,PHQ_Score,Gender\n"
                                f"{ident},10,0\n"}, "3")  # fmt: skip
    with pytest.raises(DataError, match=r"full_test_split\.csv, line 2: Participant_ID is"):
        daic_woz.read_sessions(folder)


DVLOG = "index,label,duration,gender,fold\n"
ROWS = [
    (dvlog, DVLOG + "1,depression,11:40,f,train\n", "duration is '11:40'.*here 700"),
    (dvlog, DVLOG + "1,depression,nan,f,train\n", "duration is 'nan', not a finite number"),
    (
        dvlog,
        DVLOG + "1,depression,5,f,Train\n",
        "fold is 'Train'.*did you mean 'train'",
    ),
    (dvlog, DVLOG + "1,depression,5,f,\n", "fold is '', not one of train, valid, test"),
    (dvlog, DVLOG + "nan,depression,5,f,train\n", "index is 'nan', no name"),
    (dvlog, DVLOG + "1,Depression,5,f,train\n", "label is 'Depression', not one of"),
    (dvlog, DVLOG + "1,depression,5\n", "the row ends early, without gender, fold"),
    (dvlog, DVLOG + "1,normal,5,f,test\n1,normal,5,f,test\n", "session 1 stands there twice"),
    (lmvd, "index,label,fold\n1,1,validation\n", "fold is 'validation', not one of"),
    (lmvd, "index,label,fold\n1,1.0,train\n", "label is '1.0', not one of 0, 1"),
    (lmvd, "index,label,fold\n1,1,train\n1,1,test\n", "session 1 stands there twice"),
]


@pytest.mark.parametrize(("corpus", "text", "message"), ROWS)
def test_rows_of_feature_corpora(tmp_path: Path, corpus: object, text: str, message: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=rf"labels\.csv, line \d: .*{message}"):
        corpus.read_sessions(tmp_path)  # type: ignore[attr-defined]


def features(folder: Path, spoil: Callable[[Path], object]) -> Path:
    (folder / "labels.csv").write_text(DVLOG + "0,depression,5,f,train\n")
    (folder / "0").mkdir()
    np.save(folder / "0" / "0_visual.npy", np.ones((30, 136), np.float16))
    np.save(folder / "0" / "0_acoustic.npy", np.ones((30, 25), np.float16))
    spoil(folder / "0" / "0_visual.npy")
    return folder


SPOILT: list[tuple[Callable[[Path], object], str]] = [
    (lambda p: p.write_bytes(b""), r"0_visual\.npy is empty \(0 bytes\)"),
    (lambda p: p.write_bytes(p.read_bytes()[:-50]), r"0_visual\.npy is damaged or cut off"),
    (lambda p: p.write_bytes(p.read_bytes()[:20]), r"0_visual\.npy is damaged or cut off"),
    (lambda p: p.write_text("1,2,3"), r"0_visual\.npy is no array of numbers"),
    (lambda p: np.save(p, np.array(["a"])), r"0_visual\.npy holds values of type <U1"),
    (lambda p: np.save(p, np.ones((30, 135))), r"0_visual\.npy: shape \(30, 135\) instead of"),
    (lambda p: np.save(p, np.full((30, 136), np.nan)), "frame 0 holds NaN or infinity"),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_features_that_cannot_be_used(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    root = features(tmp_path, spoil)
    (session,) = dvlog.read_sessions(root)
    with pytest.raises(DataError, match=message):
        dvlog.CORPUS.features(root, session)


MOSI = "video_id,clip_id,text,label,annotation,mode\n"
SIMS = "video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode\n"
SENTIMENT = [
    ("mosi", MOSI + "v,1,a,40,x,train\n", r"label is '40', outside -3 to 3 \(sentiment\)"),
    ("mosi", MOSI + "v,1,a,nan,x,train\n", "label is 'nan', not a finite number"),
    ("mosi", MOSI + "v,1,a,1,x\n", "the row ends early, without mode"),
    ("mosi", MOSI + "nan,1,a,1,x,train\n", "video_id is 'nan', no name"),
    ("mosi", MOSI + "v,,a,1,x,train\n", "clip_id is '', not a number"),
    ("mosi", MOSI + "v,1,a,1,x,Train\n", "mode is 'Train'.*did you mean 'train'"),
    ("mosi", MOSI + 'v,1,"a,1,x,train\n', "a quotation mark that is opened here"),
    ("sims", SIMS + "v,1,a,0.2,3,0,0,x,train\n", "label_T is '3', outside -1 to 1"),
    ("sims", SIMS + "v,1,a,0.2,,0,0,x,train\n", "label_T is '', not a number"),
]


@pytest.mark.parametrize(("corpus", "text", "message"), SENTIMENT)
def test_rows_of_sentiment_corpora(tmp_path: Path, corpus: str, text: str, message: str) -> None:
    (tmp_path / "label.csv").write_text(text)
    with pytest.raises(DataError, match=rf"label\.csv, line 2: {message}|line 2: .*{message}"):
        read_utterances(tmp_path, corpus)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_sentiment_texts_in_unicode(tmp_path: Path, encoding: str) -> None:
    text = SIMS + "v,1,你好,0.2,0.1,0.3,0,x,train\r\n"
    (tmp_path / "label.csv").write_bytes(text.encode(encoding))
    (item,) = read_utterances(tmp_path, "sims")
    assert (item.text, item.M) == ("你好", 0.2)
    (tmp_path / "label.csv").write_bytes(text.encode("gb18030"))
    with pytest.raises(DataError, match=re.escape("it looks like GBK; convert it with `iconv")):
        read_utterances(tmp_path, "sims")
