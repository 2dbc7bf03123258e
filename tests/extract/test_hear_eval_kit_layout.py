"""hear-eval-kit's embeddings directory: every file that it writes, and reading it back."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mambabench.errors import StoreError
from mambabench.extract.verb import extract
from mambabench.store.embeddings import StoredTask
from mambabench.store.hear_eval_kit_files import labels_at, shuffled_order
from mambabench.store.hear_eval_kit_read import read_labels
from mambabench.store.open import list_stored_tasks, read_embeddings

Make = Callable[..., Path]
Provide = Callable[..., str]


def both(
    make_task: Make, provider: Provide, tmp_path: Path, **options: Any
) -> tuple[StoredTask, StoredTask]:
    """Extract one task in both layouts."""
    directory, name = make_task(**options), provider()
    for layout in ("store", "hear-eval-kit"):
        extract([name], [directory], out=tmp_path / layout, layout=layout, jobs=1)
    (plain,) = list_stored_tasks(tmp_path / "store")
    (kit,) = list_stored_tasks(tmp_path / "hear-eval-kit", "hear-eval-kit")
    return plain, kit


@pytest.mark.parametrize("kind", ["scene", "event"])
def test_both_layouts_hold_the_same_embeddings(
    make_task: Make, provider: Provide, tmp_path: Path, kind: str
) -> None:
    plain, kit = both(make_task, provider, tmp_path, kind=kind, lengths=(8000, 9600, 8000, 16000))
    assert (kit.encoder, kit.encoder_identity) == (plain.encoder, plain.encoder_identity)
    assert kit.task.clips == plain.task.clips
    assert kit.layout == "hear-eval-kit"
    stream = random.Random(0)
    for split in ("train", "valid", "test"):
        order = [f"{split}{i:03d}.wav" for i in range(4)]
        stream.shuffle(order)
        ours, theirs = read_embeddings(plain, split), read_embeddings(kit, split)
        assert theirs.clip_names == tuple(order)
        for i, clip in enumerate(theirs.clip_names):
            j = ours.clip_names.index(clip)
            there = slice(*theirs.offsets[i : i + 2])
            here = slice(*ours.offsets[j : j + 2])
            np.testing.assert_array_equal(theirs.embeddings[there], ours.embeddings[here])
            if kind == "event":
                assert theirs.timestamps_ms is not None
                assert ours.timestamps_ms is not None
                np.testing.assert_array_equal(theirs.timestamps_ms[there], ours.timestamps_ms[here])


def test_files_of_a_scene_task(make_task: Make, provider: Provide, tmp_path: Path) -> None:
    _, kit = both(make_task, provider, tmp_path, lengths=(8000,) * 5)
    folder = kit.directory
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    per_split = {
        f"{split}{end}"
        for split in ("train", "valid", "test")
        for end in (
            ".json", ".embeddings.npy", ".embedding-dimensions.json", ".target-labels.pkl",
            *(f"/{s}{i:03d}.wav{e}" for s in [split] for i in range(5)
              for e in (".embedding.npy", ".target-labels.json")),
        )
    }  # fmt: skip
    once = {"task_metadata.json", "labelvocabulary.csv", "profile.embeddings.json"}
    marks = {".done.embeddings", ".mambabench.json", ".mambabench-provenance.json"}
    marks |= {".mambabench-audio.json", ".mambabench-audio-seen.json"}
    assert names == per_split | once | marks
    raw = np.fromfile(folder / "train.embeddings.npy", dtype="<f4")
    assert json.loads((folder / "train.embedding-dimensions.json").read_text()) == [5, 6]
    order = [f"train{i:03d}.wav" for i in range(5)]
    random.Random(0).shuffle(order)
    for row, clip in zip(raw.reshape(5, 6), order, strict=True):
        single = np.load(folder / "train" / f"{clip}.embedding.npy")
        assert single.shape == (6,)
        np.testing.assert_array_equal(single, row)
    labels = json.loads((folder / "train.json").read_text())
    with (folder / "train.target-labels.pkl").open("rb") as file:
        assert pickle.load(file) == [labels[clip] for clip in order]
    assert json.loads((folder / "train" / "train001.wav.target-labels.json").read_text()) == [1]


def test_files_of_a_timestamp_task(make_task: Make, provider: Provide, tmp_path: Path) -> None:
    _, kit = both(make_task, provider, tmp_path, kind="event", lengths=(8000, 9600))
    folder = kit.directory
    pairs = json.loads((folder / "test.filename-timestamps.json").read_text())
    rows, dim = json.loads((folder / "test.embedding-dimensions.json").read_text())
    assert (len(pairs), dim) == (rows, 6)
    assert pairs[0][0].startswith(str(folder / "test" / "test00"))
    assert pairs[1][1] - pairs[0][1] == 20.0
    times = json.loads((folder / "test" / "test000.wav.timestamps.json").read_text())
    frames = np.load(folder / "test" / "test000.wav.embedding.npy")
    assert frames.shape == (len(times), 6)
    labels = json.loads((folder / "test" / "test000.wav.target-labels.json").read_text())
    assert labels == [["b"] if 100.0 <= t < 200.0001 else [] for t in times]
    flat = read_labels(folder, "test")
    assert len(flat) == rows
    assert flat.count(["b"]) == sum(
        100.0 <= t < 200.0001 + int(name.rstrip(".wav")[-1]) for name, t in pairs
    )


def test_an_event_sounds_from_its_start_to_its_end() -> None:
    events = [{"label": "b", "start": 10, "end": 20}, {"label": "a", "start": 20, "end": 30}]
    found = labels_at(events, [9.99, 10, 20, 20.00005, 20.0002, 30, 30.1])
    assert found == [[], ["b"], ["a", "b"], ["a", "b"], ["a"], ["a"], []]


def test_what_the_kit_itself_has_written(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    _, kit = both(make_task, provider, tmp_path, lengths=(8000,) * 5)
    for name in (".mambabench.json", ".mambabench-provenance.json"):
        (kit.directory / name).unlink()
    (found,) = list_stored_tasks(tmp_path / "hear-eval-kit", "hear-eval-kit")
    assert found.encoder == kit.directory.parent.name
    assert len(found.encoder_identity) == 64
    assert found.encoder_identity != kit.encoder_identity
    theirs, ours = read_embeddings(found, "valid"), read_embeddings(kit, "valid")
    np.testing.assert_array_equal(theirs.embeddings, ours.embeddings)
    directory = tmp_path / "tasks" / "noise-v1-test"
    out = tmp_path / "hear-eval-kit"
    done = extract([provider()], [directory], out=out, layout="hear-eval-kit", jobs=1)
    assert done.outcomes[0].state == "already"


def test_a_label_pickle_that_runs_code_is_refused(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    _, kit = both(make_task, provider, tmp_path)
    path = kit.directory / "train.target-labels.pkl"
    path.write_bytes(pickle.dumps([eval]))
    with pytest.raises(StoreError, match=r"it names builtins\.eval, labels are text and numbers"):
        read_embeddings(kit, "train")


def test_rows_in_another_order_are_refused(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    _, kit = both(make_task, provider, tmp_path, lengths=(8000,) * 5)
    path = kit.directory / "train.target-labels.pkl"
    labels = read_labels(kit.directory, "train")
    path.write_bytes(pickle.dumps(labels[::-1]))
    assert labels != labels[::-1]
    with pytest.raises(StoreError, match="rows of split 'train' are not in the order that follows"):
        read_embeddings(kit, "train")


def test_a_short_matrix_is_refused(make_task: Make, provider: Provide, tmp_path: Path) -> None:
    _, kit = both(make_task, provider, tmp_path)
    path = kit.directory / "train.embeddings.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(StoreError, match=r"train\.embeddings\.npy has 140 bytes, its dimensions"):
        read_embeddings(kit, "train")


def test_one_folder_holds_one_layout(make_task: Make, provider: Provide, tmp_path: Path) -> None:
    both(make_task, provider, tmp_path)
    directory = tmp_path / "tasks" / "noise-v1-test"
    for layout, other in (("store", "hear-eval-kit"), ("hear-eval-kit", "store")):
        with pytest.raises(StoreError, match=f"in the layout '{other}': choose another --out"):
            extract([provider()], [directory], out=tmp_path / other, layout=layout, jobs=1)


def test_missing_clips_leave_the_split(make_task: Make, provider: Provide, tmp_path: Path) -> None:
    directory = make_task(lengths=(8000,) * 5)
    (directory / "16000" / "train" / "train002.wav").unlink()
    out = tmp_path / "out"
    extract([provider()], [directory], out=out, layout="hear-eval-kit", on_error="skip", jobs=1)
    (kit,) = list_stored_tasks(out, "hear-eval-kit")
    assert kit.missing == {"train/train002.wav": "is missing"}
    assert len(read_embeddings(kit, "train").clip_names) == 4
    assert "train002.wav" not in json.loads((kit.directory / "train.json").read_text())


def test_the_shuffle_runs_on_over_splits(make_task: Make) -> None:
    from mambabench.benchmarks.layout.read import load_task

    orders = shuffled_order(load_task(make_task(lengths=(400,) * 9)))
    assert list(orders) == ["train", "valid", "test"]
    assert all(sorted(order) == list(range(9)) for order in orders.values())
    assert orders["train"] != orders["valid"]
    stream = random.Random(0)
    first, second = list(range(9)), list(range(9))
    stream.shuffle(first)
    stream.shuffle(second)
    assert (orders["train"], orders["valid"]) == (first, second)
