"""A bundle: equal bytes, no audio, nothing of restricted clips; `verify` accepts and refuses."""

from __future__ import annotations

import os
import zipfile

import pytest
from synthetic_results import write_scene

import mambabench
from mambabench.errors import StoreError


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    for name, skill in (("weak", 1.0), ("strong", 3.0)):
        write_scene(folder, name, "task", skill=skill, seeds=2, folds={"test": 30})
        options = {"seeds": 2, "folds": {"secret": 30}, "restricted": True}
        write_scene(folder, name, "closed", skill=skill, **options)
    audio = folder / "tasks" / "task" / "16000" / "test"
    audio.mkdir(parents=True)
    (audio / "a.wav").write_bytes(b"RIFF")
    return folder


def test_bundle_is_reproducible_and_verified(out, tmp_path):
    first = mambabench.bundle(out)
    assert first.path == tmp_path / "out.zip"
    for path in out.rglob("*"):
        os.utime(path, (1e9, 1e9))
    second = mambabench.bundle(out, tmp_path / "again.zip")
    assert first.path.read_bytes() == second.path.read_bytes()
    assert (first.n_records, first.restricted) == (4, ("closed",))
    found = mambabench.verify(first.path)
    assert (found.n_records, found.findings, found.failed) == (4, (), False)


def test_neither_audio_nor_names_of_restricted_clips(out):
    path = mambabench.bundle(out).path
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        assert not [name for name in names if name.endswith(".wav") or "closed" in name]
        assert "report/report.html" in names
        assert b"secret-clip" not in b"".join(archive.read(name) for name in names)


def rewritten(path, name, data):
    with zipfile.ZipFile(path) as archive:
        files = {one: archive.read(one) for one in archive.namelist()}
    files[name] = data(files.get(name, b""))
    with zipfile.ZipFile(path, "w") as archive:
        for one, content in files.items():
            if content is not None:
                archive.writestr(one, content)


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("report/report.html", lambda old: old + b" ", "its hash differs"),
        ("report/more.html", lambda old: b"x", "is not listed"),
        ("report/scores.csv", lambda old: None, "and not there"),
        (
            "probes/weak/task/ssam2024/seed-000.json",
            lambda old: old.replace(b'"seed": 0', b'"seed": 1'),
            "its hash differs",
        ),
    ],
)
def test_what_was_changed_is_named(out, name, data, problem):
    path = mambabench.bundle(out).path
    rewritten(path, name, data)
    found = mambabench.verify(path)
    assert found.failed
    assert (path / name, True) in [(one.path, problem in one.problem) for one in found.findings]


def test_no_bundle_is_said_so(out, tmp_path):
    text = tmp_path / "text.zip"
    text.write_text("none")
    with pytest.raises(StoreError, match=r"text\.zip: is no bundle, or is cut short"):
        mambabench.verify(text)
    with zipfile.ZipFile(text, "w") as archive:
        archive.writestr("../outside", "x")
    with pytest.raises(StoreError, match="would lie outside"):
        mambabench.verify(text)
    assert not (tmp_path.parent / "outside").exists()
    path = mambabench.bundle(out).path
    with pytest.raises(StoreError, match="an archive is not mended"):
        mambabench.verify(path, fix=True)
    (tmp_path / "empty" / "probes").mkdir(parents=True)
    with pytest.raises(StoreError):
        mambabench.bundle(tmp_path / "empty")
