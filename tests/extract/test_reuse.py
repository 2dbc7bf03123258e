"""A clip is encoded once, to the same bytes; --replace takes only what another encoder left."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mambabench.errors import StoreError
from mambabench.extract import reuse, unit, works
from mambabench.extract.plan import Budget
from mambabench.extract.verb import extract
from mambabench.extract.works import BUDGETS
from mambabench.store.open import list_stored_tasks

Make = Callable[..., Path]
Provide = Callable[..., str]

# its embedding depends on how many clips it is given at once
BATCHED = """
import torch

class Model:
    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 2, 2

def load_model(path=""):
    return Model()

def get_timestamp_embeddings(audio, model):
    rows = audio.unfold(1, 400, 320)[:, :, :2].contiguous()
    return rows, 12.5 + 20.0 * torch.arange(rows.shape[1]).repeat(len(audio), 1)

def get_scene_embeddings(audio, model):
    return audio[:, :2] * len(audio)
"""


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUDGETS, "cpu", Budget(batch_s=1.5, shard_s=2.0))


def _arrays(out: Path, task: str) -> dict[str, bytes]:
    """Return every array of a sealed task, and the hashes of its clips."""
    (stored,) = [one for one in list_stored_tasks(out) if one.task.name == task]
    return {
        str(path.relative_to(stored.directory)): path.read_bytes()
        for path in sorted(stored.directory.rglob("*"))
        if path.suffix == ".npy" or path.name == "audio.json"
    }


def _two(make_task: Make, tmp_path: Path, kind: str = "scene") -> list[Path]:
    """Write two tasks of the same recordings."""
    lengths = (8000, 8000, 8000, 8000, 9000)
    one = make_task("one-v1-test", lengths=lengths, kind=kind)
    return [one, make_task("two-v1-test", lengths=lengths, kind=kind)]


def _count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the clips that reach the encoder."""
    counted: list[int] = []
    original = unit.load

    def load(*key: str):  # type: ignore[no-untyped-def]
        from dataclasses import replace

        encoder = original(*key)

        def scene(audio, layers):  # type: ignore[no-untyped-def]
            counted.append(len(audio))
            return encoder.scene(audio, layers)

        def timestamps(audio, layers):  # type: ignore[no-untyped-def]
            counted.append(len(audio))
            return encoder.timestamps(audio, layers)

        watched = replace(encoder, scene=scene, timestamps=timestamps)
        for name, (_, limit) in list(unit._loaded.items()):
            unit._loaded[name] = watched, limit
        return watched

    monkeypatch.setattr(unit, "load", load)
    monkeypatch.setattr(works, "load", load)
    return counted


@pytest.mark.parametrize("kind", ["scene", "event"])
def test_a_second_task_of_the_same_clips_is_the_same_bytes_and_less_work(
    make_task: Make,
    provider: Provide,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    tasks, name = _two(make_task, tmp_path, kind), provider()
    counted = _count(monkeypatch)
    extract([name], [tasks[1]], out=tmp_path / "alone", jobs=1)
    alone = sum(counted)
    assert alone in (15, 16)  # one more where the rate of frames is measured first
    counted.clear()
    extract([name], tasks, out=tmp_path / "both", jobs=1)
    # the second task: one batch of each shape to see that its rows are these
    assert alone < sum(counted) <= alone + 3 + 1 + 1 + 1
    assert _arrays(tmp_path / "both", "two-v1-test") == _arrays(tmp_path / "alone", "two-v1-test")


def test_a_changed_clip_is_not_taken_for_the_old_one(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    tasks, name = _two(make_task, tmp_path), provider()
    folder = tasks[1] / "16000" / "train"
    shutil.copy(folder / "train001.wav", folder / "train000.wav")
    extract([name], [tasks[1]], out=tmp_path / "alone", jobs=1)
    extract([name], tasks, out=tmp_path / "both", jobs=1)
    assert _arrays(tmp_path / "both", "two-v1-test") == _arrays(tmp_path / "alone", "two-v1-test")
    assert _arrays(tmp_path / "both", "two-v1-test") != _arrays(tmp_path / "both", "one-v1-test")


def test_rows_that_depend_on_the_batch_are_not_taken(make_task: Make, tmp_path: Path) -> None:
    """The first task has batches of two clips, the second of one and of two."""
    file = tmp_path / "batched.py"
    file.write_text(BATCHED)
    tasks = [
        make_task("one-v1-test", lengths=(8000,) * 4),
        make_task("two-v1-test", lengths=(8000,) * 5),
    ]
    extract([str(file)], [tasks[1]], out=tmp_path / "alone", jobs=1)
    extract([str(file)], tasks, out=tmp_path / "both", jobs=1)
    assert _arrays(tmp_path / "both", "two-v1-test") == _arrays(tmp_path / "alone", "two-v1-test")


def test_another_encoder_knows_nothing(
    make_task: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = _two(make_task, tmp_path)
    counted = _count(monkeypatch)
    extract(["logmel_stats", "ssam_tiny_random"], [tasks[0]], out=tmp_path / "out", jobs=1)
    assert sum(counted) == 30
    known = reuse.Known()
    assert known.find(["0" * 64]) is None


def test_replace_embeds_an_edited_provider_anew_and_keeps_the_rest(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    tasks, out = _two(make_task, tmp_path), tmp_path / "out"
    file = tmp_path / "batched.py"
    file.write_text(BATCHED)
    extract([str(file), provider()], [tasks[0]], out=out, jobs=1)
    before = {one.encoder: one.encoder_identity for one in list_stored_tasks(out)}
    file.write_text(BATCHED.replace("[:, :2] *", "[:, :2] * 2 *"))
    with pytest.raises(StoreError, match=r"was made by other weights.*--replace"):
        extract([str(file)], [tasks[0]], out=out, jobs=1)
    done = extract([str(file), provider()], [tasks[0]], out=out, jobs=1, replace=True)
    states = {outcome.encoder: outcome.state for outcome in done.outcomes}
    after = {one.encoder: one.encoder_identity for one in list_stored_tasks(out)}
    assert states.pop("batched") == "sealed"
    assert set(states.values()) == {"already"}
    assert after["batched"] != before["batched"]
    assert {k: v for k, v in after.items() if k != "batched"} == {
        k: v for k, v in before.items() if k != "batched"
    }
    again = extract([str(file)], [tasks[0]], out=out, jobs=1, replace=True)
    assert [outcome.state for outcome in again.outcomes] == ["already"]
