"""Clips of another length, coding or name than their task says: heard, warned of, repeated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mambabench.benchmarks.layout.check import check_directory
from mambabench.extract.embed import embed
from mambabench.extract.verb import extract
from mambabench.files import read_json
from mambabench.store.open import list_stored_tasks

Make = Callable[..., Path]
Provide = Callable[..., str]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:4000])


def longer(path: Path) -> None:
    soundfile.write(path, np.full(9000, 0.1), 16000)


def flac_cut(path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, 8000)
    soundfile.write(path.with_suffix(".flac"), noise, 16000)
    path.unlink()
    cut(path.with_suffix(".flac"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut, r"is cut off: it holds 0.12 s, its header promises 0.50 s"),
        (longer, "lasts 0.562 s, sample_duration says 0.5 s"),
    ],
)
@pytest.mark.parametrize("layout", ["store", "hear-eval-kit"])
def test_a_clip_of_another_length_is_warned_of_everywhere(
    make_task: Make,
    provider: Provide,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    message: str,
    layout: str,
) -> None:
    directory, out = make_task(), tmp_path / "out"
    spoil(directory / "16000" / "train" / "train001.wav")
    assert any(message in str(d) for d in check_directory(directory).defects)
    done = extract([provider()], [directory], out=out, jobs=1, layout=layout)
    (outcome,) = done.outcomes
    assert (outcome.state, list(outcome.warnings)) == ("sealed", ["train/train001.wav"])
    assert message in outcome.warnings["train/train001.wav"]
    again = extract([provider()], [directory], out=out, jobs=1, layout=layout)
    assert again.outcomes[0].warnings == outcome.warnings
    (stored,) = list_stored_tasks(out, layout)
    assert stored.warnings == outcome.warnings


@pytest.mark.slow
def test_the_report_repeats_the_warning(make_task: Make, provider: Provide, tmp_path: Path) -> None:
    from mambabench.probe.verb import probe
    from mambabench.report.summary import summarise
    from mambabench.report.verb import render

    directory, out = make_task(), tmp_path / "out"
    cut(directory / "16000" / "train" / "train001.wav")
    extract([provider()], [directory], out=out, jobs=1)
    probe(1, "linear", out=out, jobs=1)
    text = render(summarise([out]), "terminal", width=300)
    assert "train/train001.wav: is cut off: it holds 0.12 s" in text


def test_a_damaged_clip_is_a_missing_one(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    directory = make_task()
    flac_cut(directory / "16000" / "test" / "test002.wav")
    (directory / "16000" / "test" / "test003.wav").write_bytes(b"")
    (outcome,) = extract([provider()], [directory], out=tmp_path / "out", jobs=1).outcomes
    assert set(outcome.missing) == {"test/test002.wav", "test/test003.wav"}
    assert "is cut off or damaged before the 8000 samples" in outcome.missing["test/test002.wav"]
    assert "is empty (0 bytes)" in outcome.missing["test/test003.wav"]


@pytest.mark.parametrize("ending", ["mp3", "ogg", "opus"])
def test_clips_of_every_coding_are_accepted(
    make_task: Make, provider: Provide, tmp_path: Path, ending: str
) -> None:
    directory = make_task(lengths=(16000,) * 4)
    form = {"mp3": ("MP3", None), "ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS")}[ending]
    for split in ("train", "valid", "test"):
        for wav in (directory / "16000" / split).iterdir():
            samples, rate = soundfile.read(wav)
            kind, subtype = form
            soundfile.write(
                wav.with_suffix("." + ending), samples, rate, format=kind, subtype=subtype
            )
            wav.unlink()
    assert [str(d) for d in check_directory(directory).defects] == []
    (outcome,) = extract([provider()], [directory], out=tmp_path / "out", jobs=1).outcomes
    assert (outcome.state, outcome.missing, outcome.warnings) == ("sealed", {}, {})


def renamed(directory: Path, old: str, new: str) -> None:
    for split in ("train", "valid", "test"):
        for path in (directory / "16000" / split).iterdir():
            path.rename(path.with_name(path.name.replace(old, new)))


def test_names_in_another_unicode_form_are_the_same(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    directory = make_task()
    for split in ("train", "valid", "test"):
        path = directory / f"{split}.json"
        path.write_text(path.read_text().replace(split + "0", "caf\u00e9" + split))
    renamed(directory, "train0", "cafe\u0301train")
    renamed(directory, "valid0", "cafe\u0301valid")
    renamed(directory, "test0", "cafe\u0301test")
    defects = check_directory(directory).defects
    assert {d.severity for d in defects} == {"warning"}
    assert all("another Unicode form" in d.problem for d in defects)
    (outcome,) = extract([provider()], [directory], out=tmp_path / "out", jobs=1).outcomes
    assert (outcome.state, outcome.missing) == ("sealed", {})
    assert set(outcome.warnings.values()) == {"its file is named in another Unicode form"}


@pytest.mark.parametrize(("old", "new"), [(".wav", ".WAV"), ("train", "Train")])
def test_names_that_differ_in_case_are_named_once(
    make_task: Make, provider: Provide, tmp_path: Path, old: str, new: str
) -> None:
    directory = make_task()
    renamed(directory, old, new)
    texts = [str(d) for d in check_directory(directory).defects]
    assert any(f"train000{'.WAV' if old == '.wav' else '.wav'} lies there" in t for t in texts) or (
        any("Train000.wav lies there and differs in case only" in t for t in texts)
    )
    assert not any("is not named by the task" in text for text in texts)
    (outcome,) = extract([provider()], [directory], out=tmp_path / "out", jobs=1).outcomes
    assert "differs in case only" in outcome.missing["train/train000.wav"]


def test_two_clips_of_one_split_that_look_the_same(make_task: Make) -> None:
    directory = make_task()
    clips = read_json(directory / "train.json")
    (directory / "train.json").write_text(
        json.dumps({**clips, "caf\u00e9.wav": [0], "cafe\u0301.wav": [1], "TRAIN001.wav": [0]})
    )
    texts = [str(d) for d in check_directory(directory).defects]
    assert any("look the same" in text for text in texts)
    assert any("'TRAIN001.wav' and 'train001.wav' differ in case only" in text for text in texts)


def test_embedding_odd_files(provider: Provide, tmp_path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 16000)
    soundfile.write(tmp_path / "a.mp3", samples, 16000)
    soundfile.write(tmp_path / "b.wav", samples, 16000)
    data = (tmp_path / "b.wav").read_bytes()
    (tmp_path / "c.raw").write_bytes(data)
    done = embed([tmp_path / name for name in ("a.mp3", "b.wav", "c.raw")], provider())
    np.testing.assert_allclose(done.duration_s, 1.0, atol=0.1)
    np.testing.assert_array_equal(done.embedding[1], done.embedding[2])
    (tmp_path / "d.wav").write_bytes(data[:9000])
    with pytest.warns(UserWarning, match=r"d\.wav is cut off: it holds 0\.28 s"):
        embed([tmp_path / "d.wav"], provider())


@pytest.mark.parametrize("name", [b"caf\xe9.wav", b"\xff\xfe.wav"])
def test_a_name_that_is_no_utf_8_in_a_table(provider: Provide, tmp_path: Path, name: bytes) -> None:
    import os

    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    soundfile.write(tmp_path / "a.wav", np.full(16000, 0.1), 16000)
    (tmp_path / "a.wav").rename(path)
    embed([path], provider(), output=tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_bytes().splitlines()[1].startswith(os.fsencode(path) + b",")
    embed([path], provider(), output=tmp_path / "x.npz")
