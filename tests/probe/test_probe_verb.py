"""The verb on stored tasks in memory: records, resume, jobs, failures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mambabench.errors import DataError, ProtocolError, StoreError
from mambabench.probe.families import mlp
from mambabench.probe.verb import probe
from mambabench.store.embeddings import EmbeddingSet
from mambabench.store.records import read_predictions, read_record, record_paths


def result_bytes(out: Path) -> dict[str, bytes]:
    """Return every result file's bytes: records and predictions, not provenance."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("seed-*"))
        if path.is_file() and "provenance" not in path.name
    }


PROTOCOLS = ["hear2021", "ssam2024", "linear", "knn", "sound"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("n_folds", [0, 3])
def test_every_protocol_scores_a_scene_task(
    shelf: Any, scene: Any, tmp_path: Path, protocol: str, n_folds: int
) -> None:
    shelf.add(*scene(n_folds=n_folds, spread=0.7, n=40))
    run = probe(2, protocol, "faster" if protocol == "hear2021" else "default", out=tmp_path)
    assert not run.failures
    records = [read_record(path) for path in record_paths(tmp_path)]
    assert len(records) == (1 if protocol in ("linear", "knn") else 2)
    for record in records:
        assert record.score is not None
        assert record.score > 0.5
        assert [fold.fold for fold in record.folds] == (
            ["fold00", "fold01", "fold02"] if n_folds else ["test"]
        )
        assert set(record.folds[0].scores) == {"top1_acc", "mAP", "d_prime", "aucroc"}


def test_timestamp_tasks_are_scored_by_events(shelf: Any, event: Any, tmp_path: Path) -> None:
    task, sets = event()
    shelf.add(task, sets)
    for protocol in ("ssam2024", "linear", "sound"):
        run = probe(1, protocol, out=tmp_path)
        assert not run.failures
    for path in record_paths(tmp_path):
        record = read_record(path)
        assert record.score is not None
        assert record.score > 0.3, record
        (fold,) = record.folds
        assert fold.grid_point["median_filter_ms"] == 250.0
        assert fold.grid_point["min_duration_ms"] in (125.0, 250.0)
        assert fold.n_test == 6
        arrays = read_predictions(path)
        counts = arrays["test/counts:event_onset_200ms_fms"].sum(axis=0)
        by_label = arrays["test/event_counts:event_onset_200ms_fms"]
        assert by_label.sum(axis=0).tolist() == counts.tolist()
        assert fold.scores["event_onset_200ms_fms"] == pytest.approx(
            2 * counts[0] / (counts[1] + counts[2])
        )
        assert len(arrays["test/event_clip"]) == counts[2]


def test_cells_that_a_protocol_cannot_fill_are_missing_with_a_reason(
    shelf: Any, event: Any, tmp_path: Path
) -> None:
    shelf.add(*event())
    run = probe(3, "knn", out=tmp_path)
    assert not run.failures
    (cell,) = run.unavailable
    assert "a timestamp task asks for events" in cell.reason
    (path,) = record_paths(tmp_path)
    assert read_record(path).score is None
    assert read_record(path).reason == cell.reason
    (cell,) = probe(3, "hear2021", exact=True, out=tmp_path).unavailable
    assert cell.seed == 42
    assert "leave --exact out" in cell.reason


@pytest.mark.parametrize("protocol", [*PROTOCOLS, "exact", "event"])
def test_test_labels_cannot_reach_selection(
    shelf: Any, scene: Any, event: Any, tmp_path: Path, protocol: str
) -> None:
    """Permuted test labels change scores, never the grid point, the epoch or the head's bytes."""
    task, sets = event() if protocol == "event" else scene()
    permuted = list(task.clips["test"])
    order = np.random.default_rng(1).permutation(len(permuted))
    clips = {
        **task.clips,
        "test": tuple(
            replace(clip, labels=permuted[j].labels, events=permuted[j].events)
            for clip, j in zip(permuted, order, strict=True)
        ),
    }
    options: dict[str, Any] = {
        "exact": {"protocol": "ssam2024", "exact": True},
        "event": {"protocol": "ssam2024"},
        "hear2021": {"protocol": "hear2021", "grid": "faster"},
    }.get(protocol, {"protocol": protocol})
    results = []
    for name, version in (("true", task), ("permuted", replace(task, clips=clips))):
        shelf.stored.clear()
        shelf.add(version, sets)
        probe(2, **options, out=tmp_path / name)
        results.append([read_record(path) for path in record_paths(tmp_path / name)])
    for true, other in zip(*results, strict=True):
        assert true.score != other.score
        for a, b in zip(true.folds, other.folds, strict=True):
            assert a.head_sha256 == b.head_sha256
            assert a.grid_point == b.grid_point
            assert (a.best_epoch, a.n_epochs) == (b.best_epoch, b.n_epochs)
            assert a.validation_score == b.validation_score


@pytest.mark.parametrize("protocol", ["ssam2024", "sound"])
def test_results_do_not_depend_on_jobs_or_interruption(
    shelf: Any, scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    shelf.add(*scene("one-v1-full", n_folds=3, n=30))
    shelf.add(*scene("two-v1-full", multilabel=True, n=40))
    probe(2, protocol, jobs=1, out=tmp_path / "one")
    probe(2, protocol, jobs=3, out=tmp_path / "three")
    expected = result_bytes(tmp_path / "one")
    assert len(expected) == 8
    assert result_bytes(tmp_path / "three") == expected

    trials = []
    original = mlp.train

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        if len(trials) == 5:
            raise KeyboardInterrupt
        trials.append(args[0])
        return original(*args, **kwargs)

    monkeypatch.setattr(mlp, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        probe(2, protocol, jobs=1, out=tmp_path / "resumed")
    before = result_bytes(tmp_path / "resumed")
    assert len(before) < 8
    monkeypatch.setattr(mlp, "train", original)
    run = probe(2, protocol, jobs=2, out=tmp_path / "resumed")
    assert result_bytes(tmp_path / "resumed") == expected
    assert run.n_trained + run.n_present == 4
    assert not list((tmp_path / "resumed").rglob("*.work"))
    again = probe(2, protocol, out=tmp_path / "resumed")
    assert (again.n_trained, again.n_present) == (0, 4)


def test_finished_trials_of_an_unfinished_unit_are_not_trained_again(
    shelf: Any, scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.add(*scene(n_folds=4, n=30))
    probe(1, "ssam2024", out=tmp_path / "whole")
    calls: list[float] = []
    original = mlp.train
    limit = 3

    def counting(*args: Any, **kwargs: Any) -> Any:
        if len(calls) == limit:
            raise KeyboardInterrupt
        calls.append(args[0].dropout)
        return original(*args, **kwargs)

    monkeypatch.setattr(mlp, "train", counting)
    monkeypatch.setattr(mlp, "CACHED_FROM_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        probe(1, "ssam2024", jobs=1, out=tmp_path / "parts")
    limit = 100
    probe(1, "ssam2024", jobs=1, out=tmp_path / "parts")
    assert len(calls) == 5  # two grid points on the first fold, the winner on three others
    assert result_bytes(tmp_path / "parts") == result_bytes(tmp_path / "whole")


def test_records_are_trained_again_when_their_inputs_change(
    shelf: Any, scene: Any, tmp_path: Path
) -> None:
    task, sets = scene(n=30)
    shelf.add(task, sets)
    assert probe(1, "linear", out=tmp_path).n_trained == 1
    shelf.stored[0] = replace(shelf.stored[0], encoder_identity="1" * 64)
    assert probe(1, "linear", out=tmp_path).n_trained == 1
    assert probe(1, "linear", out=tmp_path).n_trained == 0


def test_a_missing_clip_is_named_in_the_record(shelf: Any, scene: Any, tmp_path: Path) -> None:
    task, sets = scene(n=30)
    whole = sets["train"]
    sets["train"] = EmbeddingSet(
        "train", whole.clip_names[1:], whole.embeddings[1:], np.arange(30), None
    )
    shelf.add(task, sets)
    shelf.stored[0] = replace(shelf.stored[0], missing={"train/train-000.wav": "cut off"})
    probe(1, "linear", out=tmp_path)
    (path,) = record_paths(tmp_path)
    assert read_record(path).missing == ("train/train-000.wav",)
    assert read_record(path).score is not None


def test_a_failed_unit_is_recorded_and_the_others_go_on(
    shelf: Any, scene: Any, tmp_path: Path
) -> None:
    task, sets = scene("broken-v1-full", n=30)
    sets["valid"].embeddings[7, 0, 2] = np.nan
    shelf.add(task, sets)
    shelf.add(*scene("whole-v1-full", n=30))
    run = probe(2, "sound", out=tmp_path)
    assert [f.task for f in run.failures] == ["broken-v1-full"] * 2
    assert "embedding of valid/valid-007.wav has NaN or infinite values" in run.failures[0].reason
    assert run.n_trained == 2
    failed = [r for r in map(read_record, record_paths(tmp_path)) if r.score is None]
    assert {r.reason for r in failed} == {run.failures[0].reason}
    assert probe(2, "sound", out=tmp_path).n_present == 2


def test_kit_protocols_refuse_a_last_batch_of_one_and_sound_joins_it(
    shelf: Any, scene: Any, tmp_path: Path
) -> None:
    shelf.add(*scene(n=1025, dim=4))
    run = probe(1, "ssam2024", out=tmp_path)
    assert "1025 training rows leave a last batch of 1" in run.failures[0].reason
    assert "use --protocol sound" in run.failures[0].reason
    assert not probe(1, "sound", out=tmp_path).failures


def test_one_class_in_training_is_refused(shelf: Any, scene: Any, tmp_path: Path) -> None:
    task, sets = scene(n=30)
    clips = tuple(replace(clip, labels=("label1",)) for clip in task.clips["train"])
    shelf.add(replace(task, clips={**task.clips, "train": clips}), sets)
    (failure,) = probe(1, "sound", out=tmp_path).failures
    assert (
        "all training clips of fold test (splits train) have the label 'label1'" in failure.reason
    )


def test_unknown_names_are_answered(shelf: Any, scene: Any, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="run `mambabench extract` with the same --out first"):
        probe(out=tmp_path)
    shelf.add(*scene())
    with pytest.raises(ProtocolError, match=r"'ssam' is not one of .*did you mean 'ssam2024'"):
        probe(protocol="ssam", out=tmp_path)
    with pytest.raises(ProtocolError, match=r"'fastest' is not one of .*did you mean 'faster'"):
        probe(protocol="hear2021", grid="fastest", out=tmp_path)
    with pytest.raises(ProtocolError, match=r"'sound' has one grid: leave --grid fast out"):
        probe(protocol="sound", grid="fast", out=tmp_path)
    with pytest.raises(ProtocolError, match=r"'linear' has no exact stream"):
        probe(protocol="linear", exact=True, out=tmp_path)
    with pytest.raises(DataError, match=r"no embeddings of task 'blob-v1-full'.*did you mean"):
        probe(task=["blob-v1-full"], out=tmp_path)
    with pytest.raises(StoreError, match=r"no embeddings of encoder 'tool'.*did you mean 'toy'"):
        probe(encoder=["tool"], out=tmp_path)
    with pytest.raises(ProtocolError, match="seeds is 0"):
        probe(0, out=tmp_path)


def test_layers_are_one_long_row(shelf: Any, scene: Any, tmp_path: Path) -> None:
    task, sets = scene(dim=12, n=30)
    shelf.add(task, sets)
    flat = {
        name: replace(part, embeddings=part.embeddings.reshape(30, 3, 4))
        for name, part in sets.items()
    }
    probe(1, "sound", out=tmp_path / "flat")
    shelf.stored.clear()
    shelf.add(task, flat)
    probe(1, "sound", out=tmp_path / "layers")
    assert result_bytes(tmp_path / "flat") == result_bytes(tmp_path / "layers")


def test_a_task_names_its_protocol_and_provenance_lies_beside(
    shelf: Any, scene: Any, tmp_path: Path
) -> None:
    shelf.add(*scene(n=30, protocol="knn"))
    said = []
    probe(2, out=tmp_path, progress=said.append)
    (path,) = record_paths(tmp_path)
    assert path.parent == tmp_path / "probes" / "toy" / "blobs-v1-full" / "knn"
    assert read_record(path).protocol == "knn"
    beside = json.loads(path.with_suffix(".provenance.json").read_text())
    assert beside["wall_s"] > 0
    assert beside["engine"] == "numba"
    assert [(p.n_done, p.n_total) for p in said] == [(1, 1)]
