"""Which labels may choose a head: never those of the clips that test it."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mambabench.benchmarks.task import Fold, folds
from mambabench.probe import protocols
from mambabench.probe.data import TaskRows
from mambabench.probe.families import mlp
from mambabench.probe.plan import ProbePlan, ProbeUnit
from mambabench.probe.protocols import PROTOCOLS
from mambabench.probe.selection import mean_values, selection_folds
from mambabench.probe.verb import probe
from mambabench.store.records import read_record, record_paths

OURS = [
    name
    for name, protocol in PROTOCOLS.items()
    if isinstance(protocol.settings, protocols.RowSettings) and not protocol.kit
]


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `sound` train few epochs: what chooses is not how long it trained."""
    sound = PROTOCOLS["sound"]
    points = tuple(replace(point, max_epochs=12) for point in sound.settings.points)
    monkeypatch.setitem(
        protocols.PROTOCOLS,
        "sound",
        replace(sound, settings=replace(sound.settings, points=points)),
    )


def test_the_protocols_of_this_project_are_checked() -> None:
    assert OURS == ["linear", "knn", "sound"]


@pytest.mark.parametrize("noise", [0, 1])
@pytest.mark.parametrize("protocol", OURS)
def test_permuted_labels_of_a_fold_do_not_change_the_head_tested_on_it(
    shelf: Any,
    scene: Any,
    tmp_path: Path,
    assert_blind: Any,
    brief: None,
    protocol: str,
    noise: int,
) -> None:
    task, sets = scene(n_folds=5, n=20, n_labels=2, dim=6, spread=6.0, seed=noise)
    calls = itertools.count()

    def run(version: Any) -> Any:
        out = tmp_path / str(next(calls))
        shelf.stored.clear()
        shelf.add(version, sets)
        assert not probe(1, protocol, out=out, jobs=1).failures
        (path,) = record_paths(out)
        return read_record(path)

    assert assert_blind(task, run) > 0


@pytest.mark.parametrize("protocol", ["linear", "sound"])
def test_permuted_events_of_a_fold_do_not_change_the_head_tested_on_it(
    shelf: Any, event: Any, tmp_path: Path, assert_blind: Any, brief: None, protocol: str
) -> None:
    task, sets = event(n_clips=5, n_frames=40, n_folds=3)
    calls = itertools.count()

    def run(version: Any) -> Any:
        out = tmp_path / str(next(calls))
        shelf.stored.clear()
        shelf.add(version, sets)
        assert not probe(1, protocol, out=out, jobs=1).failures
        (path,) = record_paths(out)
        return read_record(path)

    assert assert_blind(task, run) > 0


def test_a_small_validation_fold_rotates_until_enough_clips_are_seen(scene: Any) -> None:
    task, _ = scene(n_folds=5, n=40)
    fold = folds(task)[3]
    assert fold == Fold("fold03", "fold04", ("fold00", "fold01", "fold02"))
    assert selection_folds(task, fold, 40) == (fold,)
    assert selection_folds(task, fold, 41) == (
        fold,
        Fold("fold03", "fold00", ("fold01", "fold02", "fold04")),
    )
    every = selection_folds(task, fold, 10**6)
    assert [part.valid for part in every] == ["fold04", "fold00", "fold01", "fold02"]
    for part in every:
        assert part.test == "fold03"
        assert sorted((part.valid, *part.train)) == ["fold00", "fold01", "fold02", "fold04"]


def test_a_fixed_validation_split_does_not_rotate(scene: Any) -> None:
    task, _ = scene(n=10)
    (fold,) = folds(task)
    assert selection_folds(task, fold, 10**6) == (fold,)


def test_timestamp_tasks_count_reference_events(event: Any) -> None:
    task, _ = event(n_clips=3, n_folds=4)  # four events a clip
    fold = folds(task)[0]
    assert len(selection_folds(task, fold, 12)) == 1
    assert len(selection_folds(task, fold, 13)) == 2


def test_a_point_without_a_value_where_another_has_one_has_no_mean() -> None:
    nan = math.nan
    assert mean_values([[0.5, nan, 0.7], [0.9, nan, 0.1]]) == pytest.approx([0.6, 0.5])
    first, second = mean_values([[0.5, nan], [0.1, 0.2]])
    assert math.isnan(first)
    assert second == pytest.approx(0.15)
    assert all(math.isnan(value) for value in mean_values([[nan], [nan]]))


def test_sound_takes_the_best_mean_over_the_folds_that_a_head_may_see(
    shelf: Any, scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each head's point follows from the mean of its own fits, not from one of them or another's;
    the head is the fit on the fold's own split."""
    task, sets = scene(n_folds=4, n=30, n_labels=2, dim=6)
    shelf.add(task, sets)
    points = PROTOCOLS["sound"].settings.points
    # head -> validation fold -> value of each point; the own validation fold comes first
    values: dict[str, dict[str, tuple[float, float, float]]] = {
        "fold00": {"fold01": (0.1, 0.2, 0.9), "fold02": (0.9, 0.1, 0.1), "fold03": (0.9, 0.1, 0.1)},
        "fold01": {"fold02": (0.9, 0.1, 0.1), "fold03": (0.1, 0.8, 0.1), "fold00": (0.1, 0.8, 0.2)},
        "fold02": {"fold03": (0.5, 0.4, 0.5), "fold00": (0.2, 0.3, 0.5), "fold01": (0.1, 0.1, 0.2)},
        "fold03": {"fold00": (0.2, 0.5, 0.5), "fold01": (0.2, 0.5, 0.5), "fold02": (0.2, 0.5, 0.5)},
    }
    trained = mlp._trial

    def told(unit: Any, fold: Fold, config: Any, *args: Any, **kwargs: Any) -> Any:
        job = trained(unit, fold, config, *args, **kwargs)

        def run() -> Any:
            value = values[fold.test][fold.valid][points.index(config)]
            return replace(job.run(), value=value, score=value)

        return replace(job, run=run)

    monkeypatch.setattr(mlp, "_trial", told)
    brief = tuple(replace(point, max_epochs=2) for point in points)
    points = brief
    sound = PROTOCOLS["sound"]
    monkeypatch.setitem(
        protocols.PROTOCOLS, "sound", replace(sound, settings=replace(sound.settings, points=brief))
    )
    probe(1, "sound", out=tmp_path, jobs=1)
    record = read_record(record_paths(tmp_path)[0])
    chosen = [
        (fold.grid_point["hidden_layers"], fold.grid_point["dropout"]) for fold in record.folds
    ]
    linear, cautious, eager = ((point.hidden_layers, point.dropout) for point in points)
    assert chosen == [linear, cautious, eager, cautious]
    assert [fold.validation_score for fold in record.folds] == [0.1, 0.1, 0.5, 0.5]


def test_a_choice_that_only_helps_has_a_stream_of_its_own(scene: Any, shelf: Any) -> None:
    """The head's own fit draws what it drew before other folds took part in the choice."""
    task, sets = scene(n_folds=4, n=30)
    rows = TaskRows(shelf.add(task, sets), kit=False)
    unit = ProbeUnit(ProbePlan(rows, PROTOCOLS["sound"]), 0, "")
    fold = rows.folds[0]
    rotated = selection_folds(task, fold, 10**6)[1]
    config = PROTOCOLS["sound"].settings.points[1]
    seeds = {
        mlp._trial(unit, part, config, None, own=own).stackable.seed
        for part, own in ((fold, True), (fold, False), (rotated, False))
    }
    assert len(seeds) == 3
