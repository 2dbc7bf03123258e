"""Depression corpora: loaders, counts, missing files, new splits, interviews."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mambabench.benchmarks.affect import read_affect
from mambabench.benchmarks.depression import corpora, dvlog, find_corpus, generated, lmvd
from mambabench.benchmarks.depression.interviews import ParticipantTurn, clips_of_turns, prepare
from mambabench.benchmarks.depression.openface import COLUMNS, extract_landmarks
from mambabench.benchmarks.depression.sessions import (
    Session,
    check_counts,
    crops,
    make_split,
    select,
)
from mambabench.benchmarks.layout.read import load_task
from mambabench.benchmarks.tasks import prepare as prepare_task
from mambabench.errors import DataError, ProtocolError


def _dvlog(root: Path, rows: list[str]) -> None:
    (root / "labels.csv").write_text("index,label,duration,gender,fold\n" + "\n".join(rows) + "\n")


def _features(root: Path, name: str, frames: int = 6, audio: int = 25) -> None:
    folder = root / name
    folder.mkdir()
    np.save(folder / f"{name}_visual.npy", np.ones((frames, 136)))
    np.save(folder / f"{name}_acoustic.npy", np.ones((frames + 2, audio)))


def test_every_corpus_is_found_by_its_file() -> None:
    assert set(corpora()) == {"daic_woz", "dvlog", "e_daic", "generated", "lmvd"}
    with pytest.raises(DataError, match="no depression corpus 'dvlogs'; did you mean 'dvlog'"):
        find_corpus("dvlogs")


def test_dvlog_labels_are_read_and_faults_named(tmp_path: Path) -> None:
    _dvlog(tmp_path, ["7,depression,12.5,f,train", "8,normal,3,m,test"])
    (tmp_path / "speakers.csv").write_text("index,speaker\n7,anna\n8,anna\n")
    first, second = dvlog.read_sessions(tmp_path)
    assert first == Session("7", "train", 1, "f", 12.5, "anna")
    assert (second.label, second.cluster) == (0, "anna")
    _dvlog(tmp_path, ["7,sad,1,f,train"])
    with pytest.raises(
        DataError, match=r"labels\.csv, line 2: label is 'sad', not one of depression, normal"
    ):
        dvlog.read_sessions(tmp_path)
    (tmp_path / "labels.csv").write_text("index,labels,duration,gender,fold\n")
    with pytest.raises(DataError, match=r"no column 'label' in .*; did you mean 'labels'"):
        dvlog.read_sessions(tmp_path)
    with pytest.raises(DataError, match=r"labels\.csv is missing"):
        dvlog.read_sessions(tmp_path / "nowhere")


def test_dvlog_features_are_cut_to_the_shorter_stream_and_checked(tmp_path: Path) -> None:
    session = Session("7", "train", 1)
    with pytest.raises(DataError, match=r"7_visual.npy is missing"):
        dvlog.CORPUS.features(tmp_path, session)
    _features(tmp_path, "7")
    assert dvlog.CORPUS.features(tmp_path, session).shape == (6, 161)
    np.save(tmp_path / "7" / "7_acoustic.npy", np.full((8, 25), np.nan))
    with pytest.raises(DataError, match="session 7: frame 0 holds NaN"):
        dvlog.CORPUS.features(tmp_path, session)
    np.save(tmp_path / "7" / "7_acoustic.npy", np.ones((8, 24)))
    with pytest.raises(DataError, match=r"shape \(8, 24\) instead of \(frames, 25\)"):
        dvlog.CORPUS.features(tmp_path, session)


def test_counts_and_missing_sessions_are_named(tmp_path: Path) -> None:
    _dvlog(tmp_path, ["7,depression,12.5,f,train", "8,normal,3,m,test"])
    _features(tmp_path, "7")
    sessions = dvlog.read_sessions(tmp_path)
    assert "dvlog train: 1 sessions (1 positive) instead of 647 (375)" in check_counts(
        dvlog.CORPUS, sessions
    )
    assert dvlog.CORPUS.missing(tmp_path, sessions) == ("8",)


def test_lmvd_reads_its_published_split_file(tmp_path: Path) -> None:
    (tmp_path / "lmvd_labels.csv").write_text("index,label,fold\n001,1,train\n0602,0,test\n")
    first, second = lmvd.read_sessions(tmp_path)
    assert (first.name, first.label, second.split, second.gender) == ("001", 1, "test", None)
    assert len(lmvd.CORPUS.known_missing) == 6
    (tmp_path / "lmvd_labels.csv").write_text("index,label,fold\n001,2,train\n")
    with pytest.raises(DataError, match="label is '2', not one of 0, 1"):
        lmvd.read_sessions(tmp_path)


def test_gender_filters_only_where_it_is_known() -> None:
    sessions = [Session("a", "test", 1, "f"), Session("b", "test", 0, "m"), Session("c", "test", 0)]
    assert [s.name for s in select(sessions, "test", "f")] == ["a", "c"]
    assert len(select(sessions, "test")) == 3
    with pytest.raises(ProtocolError, match="gender must be both, f or m"):
        select(sessions, "test", "w")
    with pytest.raises(ProtocolError, match="no split 'tset'; did you mean 'test'"):
        select(sessions, "tset")


def test_crops_follow_the_published_stream() -> None:
    rng, same = random.Random(3), random.Random(3)
    want = []
    for _ in range(5):
        length = int(same.random() * 900)
        if length >= 500:
            start = same.randint(1, 900 - length)
            want.append(slice(start, start + length))
    assert crops(900, rng, 500) == want
    assert crops(10, rng, 500) == []


def test_new_splits_cross_no_speaker_and_follow_their_seed() -> None:
    sessions = [Session(str(i), "train", i % 2, speaker=f"s{i // 4}") for i in range(200)]
    first, again, other = (make_split(sessions, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    where: dict[str, set[str]] = {}
    for session in first:
        where.setdefault(session.cluster, set()).add(session.split)
    assert all(len(splits) == 1 for splits in where.values())
    shares = {s: sum(x.split == s for x in first) / 200 for s in ("train", "valid", "test")}
    assert shares["train"] == pytest.approx(0.7, abs=0.05)
    assert shares["test"] == pytest.approx(0.2, abs=0.05)


def test_openface_rows_are_standardised_and_faults_named(tmp_path: Path) -> None:
    header = "frame, " + ", ".join(COLUMNS)
    rows = [f"{f}, " + ", ".join(str(float(i * f % 7)) for i in range(136)) for f in (1, 2, 31)]
    path = tmp_path / "face.csv"
    path.write_text("\n".join((header, *rows)) + "\n")
    found = extract_landmarks(path)
    assert found.shape == (2, 136)
    np.testing.assert_allclose(found.mean(1), 0, atol=1e-12)
    np.testing.assert_allclose(found.std(1), 1, atol=1e-12)
    path.write_text(header.replace(", y_67", "") + "\n")
    with pytest.raises(DataError, match="no column 'y_67'"):
        extract_landmarks(path)
    path.write_text(header + "\n")
    with pytest.raises(DataError, match="no frame number is 1, 31, 61"):
        extract_landmarks(path)


def test_generated_corpus_is_deterministic_and_balanced(tmp_path: Path) -> None:
    for name in ("a", "b"):
        generated.generate(tmp_path / name, seed=4)
    first = (tmp_path / "a" / "5" / "5_visual.npy").read_bytes()
    assert first == (tmp_path / "b" / "5" / "5_visual.npy").read_bytes()
    sessions = generated.CORPUS.read_sessions(tmp_path / "a")
    assert check_counts(generated.CORPUS, sessions) == ()
    assert generated.CORPUS.missing(tmp_path / "a", sessions) == ()


def test_turns_are_cut_into_equal_pieces() -> None:
    pieces = clips_of_turns(
        (ParticipantTurn(0, 0.5), ParticipantTurn(1, 4), ParticipantTurn(10, 35))
    )
    assert pieces == [
        ParticipantTurn(1, 4),
        ParticipantTurn(10, 18.3333),
        ParticipantTurn(18.3333, 26.6667),
        ParticipantTurn(26.6667, 35),
    ]


def _daic(root: Path) -> None:
    header = "Participant_ID,PHQ8_Binary,PHQ8_Score,Gender\n"
    (root / "train_split_Depression_AVEC2017.csv").write_text(header + "300,0,2,1\n301,0,10,0\n")
    (root / "dev_split_Depression_AVEC2017.csv").write_text(header + "302,0,4,1\n303,1,14,0\n")
    (root / "full_test_split.csv").write_text(
        "Participant_ID,PHQ_Binary,PHQ_Score,Gender\n304,1,12,1\n305,0,0,0\n"
    )
    for name in range(300, 306):
        folder = root / f"{name}_P"
        folder.mkdir()
        soundfile.write(folder / f"{name}_AUDIO.wav", np.zeros(16000 * 8), 16000)
        (folder / f"{name}_TRANSCRIPT.csv").write_text(
            "start_time\tstop_time\tspeaker\tvalue\n"
            "0.5\t2.0\tEllie\thow are you\n2.5\t4.5\tParticipant\tfine\n"
            "4.6\t5.0\tParticipant\tyes\n5.5\t7.5\tparticipant\tthanks\n"
        )


def test_daic_woz_becomes_a_task_of_the_participants_turns(tmp_path: Path) -> None:
    _daic(tmp_path)
    done = prepare_task("daic_woz", tmp_path, tmp_path / "tasks")
    assert done.n_clips == {"train": 4, "valid": 4, "test": 4}
    assert any("instead of 107 (31)" in note for note in done.notes)
    task = load_task(tmp_path / "tasks" / "daic_woz")
    assert task.restricted
    assert task.labels == ("normal", "depressed")
    clips = task.clips["train"]
    spoken = [(c.source.start_s, c.source.duration_s) for c in clips[:2] if c.source]
    assert spoken == [(2.5, 2.0), (5.5, 2.0)]  # never the interviewer, never a turn below 1 s
    assert [c.cluster for c in clips] == ["300", "300", "301", "301"]
    affect = read_affect(tmp_path / "tasks" / "daic_woz")
    assert affect is not None
    person = affect.sessions["301"]
    assert (person.label, person.gender, person.score, person.duration_s) == (1, "f", 10.0, 4.0)
    assert load_task(tmp_path / "tasks" / "daic_woz_frames").pooling == "frames"


def test_interviews_with_missing_parts_are_refused(tmp_path: Path) -> None:
    _daic(tmp_path)
    corpus = find_corpus("daic_woz")
    (tmp_path / "303_P" / "303_TRANSCRIPT.csv").write_text(
        "start_time\tstop_time\tspeaker\tvalue\n0.5\t2.0\tEllie\thi\n"
    )
    with pytest.raises(DataError, match="no row whose speaker is Participant"):
        prepare(corpus, tmp_path, tmp_path / "tasks")  # type: ignore[arg-type]
    (tmp_path / "303_P" / "303_TRANSCRIPT.csv").unlink()
    with pytest.raises(DataError, match="without it the interviewer cannot be left out"):
        prepare(corpus, tmp_path, tmp_path / "tasks")  # type: ignore[arg-type]
    (tmp_path / "304_P" / "304_AUDIO.wav").unlink()
    with pytest.raises(DataError, match=r"1 files:\n  session 304: .*304_AUDIO.wav is missing"):
        prepare(corpus, tmp_path, tmp_path / "tasks")  # type: ignore[arg-type]


def test_e_daic_reads_its_own_layout(tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    for i, name in enumerate(("train", "dev", "test")):
        rows = "".join(
            f"{300 + 2 * i + k},{('male', 'female')[k]},{k},{12 * k}\n" for k in range(2)
        )
        (labels / f"{name}_split.csv").write_text(
            "Participant_ID,Gender,PHQ_Binary,PHQ_Score\n" + rows
        )
    for name in range(300, 306):
        folder = tmp_path / f"{name}_P"
        folder.mkdir()
        soundfile.write(folder / f"{name}_AUDIO.wav", np.zeros(16000 * 3), 16000)
        (folder / f"{name}_Transcript.csv").write_text(
            "Start_Time,End_Time,Text,Confidence\n0.5,2.5,hello there,0.9\n"
        )
    prepare_task("e_daic", tmp_path, tmp_path / "tasks")
    task = load_task(tmp_path / "tasks" / "e_daic")
    assert [c.labels for c in task.clips["test"]] == [("normal",), ("depressed",)]
    text = json.loads((tmp_path / "tasks" / "e_daic" / "task_metadata.json").read_text())
    assert {s["gender"] for s in text["affect"]["sessions"]} == {"f", "m"}
