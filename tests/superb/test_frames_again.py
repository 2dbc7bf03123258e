"""Frames that are not stored: the same numbers from frames that are encoded at every step."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from trees import TREES

import mambabench
from mambabench.benchmarks.superb.prepare import prepare
from mambabench.errors import MambabenchError, StoreError
from mambabench.extract import again
from mambabench.probe.families import recipes
from mambabench.store.again import ClipAgain
from mambabench.store.open import content_sha256, list_stored_tasks, read_embeddings
from mambabench.store.records import read_predictions, read_record, record_paths

TASKS = {"superb_sd": 8, "superb_asr": 6, "superb_qbe": 10}
FEW = {"total_steps": 6, "evaluations": 2, "learning_rates": (1e-2,)}


def quick(monkeypatch):
    for name in ("ASR", "SD"):
        recipe = replace(recipes.RECIPES[name], **FEW, width=8, batch_size=4, accumulation=1)
        monkeypatch.setitem(recipes.RECIPES, name, recipe)


@pytest.fixture
def tasks(tmp_path):
    for name, size in TASKS.items():
        prepare(name, TREES[name](tmp_path / "corpora" / name, size), tmp_path / "tasks")
    return tmp_path / "tasks"


def test_the_numbers_are_those_of_stored_frames(tasks, tmp_path, monkeypatch):
    quick(monkeypatch)
    monkeypatch.setattr(again, "MOST_KEPT_BYTES", 0)  # one batch in memory
    outs = {mode: tmp_path / mode for mode in ("store", "recompute")}
    for mode, out in outs.items():
        mambabench.extract(["logmel_stats"], [tasks], out=out, jobs=1, frames=mode)
        done = mambabench.probe(1, "superb", out=out, jobs=2, frames=mode)
        assert not done.failures
    found = {mode: record_paths(out) for mode, out in outs.items()}
    assert len(found["store"]) == 3
    for stored, encoded in zip(*found.values(), strict=True):
        ours, theirs = read_record(stored), read_record(encoded)
        assert (ours.frames, theirs.frames) == ("store", "recompute")
        inputs = {"frames": "store", "inputs_sha256": ours.inputs_sha256}
        assert replace(theirs, **inputs) == ours
        arrays = read_predictions(stored)
        again_arrays = read_predictions(encoded)
        assert all(np.array_equal(arrays[name], again_arrays[name]) for name in arrays)


def test_no_frame_lies_on_the_disk_and_rows_are_equal(tasks, tmp_path):
    outs = {mode: tmp_path / mode for mode in ("store", "recompute")}
    for mode, out in outs.items():
        mambabench.extract(["logmel_stats"], [tasks], ["superb_sd"], out, jobs=1, frames=mode)
    (stored,), (encoded,) = (list_stored_tasks(out) for out in outs.values())
    size = (encoded.directory / "train.embeddings.npy").stat().st_size
    assert size < 200 < (stored.directory / "train.embeddings.npy").stat().st_size
    assert not (encoded.directory / "work").exists()
    ours, theirs = (read_embeddings(one, "train") for one in (stored, encoded))
    assert ours.clip_names == theirs.clip_names
    assert np.array_equal(ours.offsets, theirs.offsets)
    assert np.array_equal(ours.timestamps_ms, theirs.timestamps_ms)
    assert theirs.embeddings.shape == ours.embeddings.shape
    assert theirs.embeddings.dtype == ours.embeddings.dtype
    assert np.array_equal(np.asarray(theirs.embeddings), ours.embeddings)
    start, stop = ours.offsets[1:3]
    clip = theirs.embeddings[start:stop][2:9]
    assert isinstance(clip, ClipAgain)
    assert clip.shape == (7, *ours.embeddings.shape[1:])
    assert np.array_equal(np.asarray(clip, np.float32), ours.embeddings[start + 2 : start + 9])
    assert np.array_equal(clip[:, 0], ours.embeddings[start + 2 : start + 9, 0])
    assert np.array_equal(theirs.embeddings[start - 1 : stop], ours.embeddings[start - 1 : stop])
    assert mambabench.verify(outs["recompute"]).findings == ()


def test_encoding_at_every_step_has_to_be_asked_for(tasks, tmp_path):
    arguments = (["logmel_stats"], [tasks], ["superb_qbe"], tmp_path)
    mambabench.extract(*arguments, jobs=1, frames="recompute")
    with pytest.raises(StoreError, match=r"holds no frames.* --frames recompute .*remove the fold"):
        mambabench.probe(1, "superb", out=tmp_path)
    with pytest.raises(StoreError, match="made with frames recompute, now store is asked for"):
        mambabench.extract(*arguments, jobs=1)
    with pytest.raises(MambabenchError, match="no place in --layout hear-eval-kit"):
        mambabench.extract(*arguments, frames="recompute", layout="hear-eval-kit")


def test_tasks_without_frames_are_stored_as_ever(tmp_path):
    prepare("superb_er", TREES["superb_er"](tmp_path / "corpus"), tmp_path / "tasks")
    for mode in ("store", "recompute"):
        out = tmp_path / mode
        mambabench.extract(["logmel_stats"], [tmp_path / "tasks"], out=out, jobs=1, frames=mode)
    first, second = (list_stored_tasks(tmp_path / mode)[0] for mode in ("store", "recompute"))
    assert second.frames == "store"
    assert content_sha256(first) == content_sha256(second)


def test_a_changed_file_is_named_by_probe_and_mended_by_extract(tasks, tmp_path, monkeypatch):
    quick(monkeypatch)
    arguments = (["logmel_stats"], [tasks], ["superb_sd"], tmp_path)
    mambabench.extract(*arguments, jobs=1, frames="recompute")
    (stored,) = list_stored_tasks(tmp_path)
    before = content_sha256(stored)
    clip = stored.task.clips["train"][0]
    samples, rate = soundfile.read(clip.source.path, dtype="int16")
    soundfile.write(clip.source.path, samples[::-1], rate, subtype="PCM_16")
    done = mambabench.probe(1, "superb", out=tmp_path, frames="recompute")
    (failure,) = done.failures
    assert f"frames of train/{clip.name} are not those that extract saw" in failure.reason
    assert "extract again" in failure.reason
    (outcome,) = mambabench.extract(*arguments, jobs=1, frames="recompute").outcomes
    assert list(outcome.changed) == [f"train/{clip.name}"]
    (stored,) = list_stored_tasks(tmp_path)
    assert content_sha256(stored) != before
    assert not mambabench.probe(1, "superb", out=tmp_path, frames="recompute").failures


def test_a_damaged_list_of_batches_is_refused(tasks, tmp_path):
    mambabench.extract(
        ["logmel_stats"], [tasks], ["superb_sd"], tmp_path, jobs=1, frames="recompute"
    )
    (stored,) = list_stored_tasks(tmp_path)
    path = stored.directory / "frames.json"
    body = json.loads(path.read_bytes())
    body["dim"] += 1
    path.write_text(json.dumps(body))
    with pytest.raises(StoreError, match=r"frames\.json is damaged.* extract again"):
        list_stored_tasks(tmp_path)
