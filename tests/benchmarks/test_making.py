"""From a table to a task: splits tear nothing apart, and what is wrong is named by line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

import mambabench
from mambabench.benchmarks.layout.read import load_task
from mambabench.cli.tasks import command
from mambabench.errors import DataError
from mambabench.store.open import list_stored_tasks, read_embeddings

N = 60


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty sounds of three classes, in two folders that use the same names."""
    folder = tmp_path_factory.mktemp("audio")
    time = np.arange(4000) / 8000
    for i in range(N):
        path = folder / f"part{i % 2}" / f"{i // 2:02d}.wav"
        path.parent.mkdir(exist_ok=True)
        tone = np.sin(2 * np.pi * (200 * (1 + i % 3) + i) * time)
        soundfile.write(path, 0.5 * tone, 8000)
    return folder


def _rows(extra: Any = None) -> list[str]:
    lines = []
    for i in range(N):
        own = "" if extra is None else f",{extra(i)}"
        lines.append(f"part{i % 2}/{i // 2:02d}.wav,tone{i % 3}{own}")
    return lines


def _table(folder: Path, header: str, rows: list[str]) -> Path:
    path = folder / "mine.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def _metadata(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "task_metadata.json").read_text())
    return found


def test_splits_are_made_of_whole_groups_in_like_shares(audio: Path, tmp_path: Path) -> None:
    table = _table(tmp_path, "Filename,Class,Speaker", _rows(lambda i: f"s{i // 4}"))
    done = mambabench.tasks.make(table, audio, tmp_path / "a")
    task = load_task(done.directory)
    groups = {split: {clip.cluster for clip in clips} for split, clips in task.clips.items()}
    assert groups["train"].isdisjoint(groups["valid"] | groups["test"])
    assert groups["valid"].isdisjoint(groups["test"])
    for split, share in (("train", 0.6), ("valid", 0.2), ("test", 0.2)):
        counts = Counter(label for clip in task.clips[split] for label in clip.labels)
        assert len(task.clips[split]) == pytest.approx(share * N, abs=4)
        assert counts == pytest.approx(dict.fromkeys(task.labels, share * N / 3), abs=2)
    assert (
        "made by mambabench from whole groups with seed 0" in _metadata(done.directory)["notes"][0]
    )
    again = mambabench.tasks.make(table, audio, tmp_path / "b")
    for path in sorted(done.directory.iterdir()):
        assert path.read_bytes() == (again.directory / path.name).read_bytes()
    other = load_task(mambabench.tasks.make(table, audio, tmp_path / "c", seed=1).directory)
    assert other.clips != task.clips


def test_a_made_task_runs(audio: Path, tmp_path: Path) -> None:
    table = _table(tmp_path, "path,label", _rows())
    done = CliRunner().invoke(
        command,
        ["make", "--csv", str(table), "--audio", str(audio), "--to", str(tmp_path / "t"), "--json"],
    )
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["ok"]
    assert facts["task"] == "mine"
    assert sum(facts["clips"].values()) == N == facts["n_files"]
    run = mambabench.run(
        "logmel_stats", tmp_path / "t", out=tmp_path / "o", protocol="linear", jobs=1
    )
    assert run.reported is not None
    assert run.reported.summary.rows[0].mean == 1.0, "three tones are told apart"


def test_the_splits_of_a_table_are_kept(audio: Path, tmp_path: Path) -> None:
    names = ("training", "dev", "eval")
    table = _table(tmp_path, "file,label,subset", _rows(lambda i: names[i // 3 % 3]))
    task = load_task(mambabench.tasks.make(table, audio, tmp_path / "t").directory)
    counts = {split: len(clips) for split, clips in task.clips.items()}
    assert counts == {"train": 21, "valid": 21, "test": 18}
    folds = _table(tmp_path, "file,label,fold", _rows(lambda i: 1 + i // 3 % 5))
    task = load_task(mambabench.tasks.make(folds, audio, tmp_path / "f").directory)
    assert task.split_mode == "presplit_kfold"
    assert task.splits == tuple(f"fold{i:02d}" for i in range(5))
    made = load_task(
        mambabench.tasks.make(
            _table(tmp_path, "file,label", _rows()), audio, tmp_path / "g", folds=4
        ).directory
    )
    assert [len(made.clips[split]) for split in made.splits] == [15] * 4


def test_validation_is_cut_from_train_where_it_lacks(audio: Path, tmp_path: Path) -> None:
    table = _table(tmp_path, "file,label,split", _rows(lambda i: "test" if i % 4 == 0 else "train"))
    done = mambabench.tasks.make(table, audio, tmp_path / "t")
    assert done.n_clips == {"train": 36, "valid": 9, "test": 15}
    assert "valid was cut from the table's train" in done.notes[0]


def test_torn_groups_are_said(audio: Path, tmp_path: Path) -> None:
    names = ("train", "valid", "test")
    rows = _rows(lambda i: f"{names[i // 3 % 3]},g{i % 30}")
    done = mambabench.tasks.make(
        _table(tmp_path, "file,label,split,group", rows), audio, tmp_path / "t"
    )
    assert "30 groups are in more than one of the table's splits: g0" in done.notes[0]


def test_several_labels_and_events(audio: Path, tmp_path: Path) -> None:
    many = [f"{row};loud" if i % 2 else row for i, row in enumerate(_rows())]
    table = _table(tmp_path, "file,labels", many)
    task = load_task(mambabench.tasks.make(table, audio, tmp_path / "t").directory)
    assert task.prediction_type == "multilabel"
    assert task.labels == ("loud", "tone0", "tone1", "tone2")
    events = [f"{row},0.1,0.25" for row in _rows()] + [f"{row},0.3,0.5" for row in _rows()]
    table = _table(tmp_path, "file,label,onset,offset", events)
    task = load_task(mambabench.tasks.make(table, audio, tmp_path / "e").directory)
    assert task.embedding_type == "event"
    clip = task.clips["test"][0]
    assert [(e.start_ms, e.end_ms) for e in clip.events] == [(100.0, 250.0), (300.0, 500.0)]


@pytest.mark.parametrize(
    ("header", "change", "said"),
    [
        ("name,label", {}, "no column says the file; there are name, label: name it with --column"),
        ("file,label", {3: "part0/99.wav,tone0"}, "mine.csv, line 5: .*99.wav is not there"),
        ("file,label", {3: "part0/00.wav,tone0"}, "'part0/00.wav' stands there twice"),
        ("file,label", {3: "part1/01.wav,"}, "line 5: part1.01.wav has no label"),
        ("file,label,split", {}, "line 2"),
        ("file,label", {i: r.split(",")[0] + ",x" for i, r in enumerate(_rows())}, "two at least"),
    ],
)
def test_what_is_wrong_is_named(
    audio: Path, tmp_path: Path, header: str, change: dict[int, str], said: str
) -> None:
    rows = [change.get(i, row) for i, row in enumerate(_rows())]
    with pytest.raises(DataError, match=said):
        mambabench.tasks.make(_table(tmp_path, header, rows), audio, tmp_path / "t")


def test_few_groups_are_refused(audio: Path, tmp_path: Path) -> None:
    table = _table(tmp_path, "file,label,group", _rows(lambda i: f"g{i % 2}"))
    with pytest.raises(DataError, match="2 groups cannot fill 3 splits"):
        mambabench.tasks.make(table, audio, tmp_path / "t")


def test_files_of_several_sample_rates_are_each_resampled(tmp_path: Path) -> None:
    """What is embedded is what the file alone gives, whatever rate its neighbours have."""
    rates = (8000, 16000, 22050)
    for i in range(24):
        rate = rates[i // 2 % 3]
        tone = np.sin(2 * np.pi * (300 + 900 * (i % 2) + 7 * i) * np.arange(rate // 2) / rate)
        soundfile.write(tmp_path / f"{i:02d}.wav", 0.5 * tone, rate)
    rows = [f"{i:02d}.wav,{'low' if i % 2 == 0 else 'high'}" for i in range(24)]
    made = mambabench.tasks.make(_table(tmp_path, "file,label", rows), tmp_path, tmp_path / "t")
    said = "several sample rates (8 of 8000 Hz, 8 of 16000 Hz, 8 of 22050 Hz)"
    assert any(said in note for note in made.notes)
    out = tmp_path / "o"
    done = mambabench.extract("logmel_stats", tmp_path / "t", out=out, jobs=1)
    assert not done.failed
    manifest = json.loads((done.outcomes[0].directory / "manifest.json").read_text())
    assert manifest["resampled_from_hz"] == 8000, "the lowest: what the report flags"
    stored = {}
    (task,) = list_stored_tasks(out)
    for split in task.task.splits:
        names = [clip.name for clip in task.task.clips[split]]
        stored |= dict(zip(names, read_embeddings(task, split).embeddings, strict=True))
    files = [tmp_path / f"{i:02d}.wav" for i in range(24)]
    alone = mambabench.embed(files, "logmel_stats")
    for path, embedding in zip(files, alone.embedding, strict=True):
        np.testing.assert_allclose(stored[path.name][0], embedding, rtol=1e-5, atol=1e-5)
    run = mambabench.run("logmel_stats", tmp_path / "t", out=out, protocol="linear", jobs=1)
    assert run.reported is not None
    assert run.reported.summary.rows[0].mean == 1.0
