"""What a dry run says of probes: arithmetic on injected times, rows as hard as the real ones."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest

import mambabench
from mambabench.benchmarks import demo, discover
from mambabench.engine.jobs import Job, Stopped
from mambabench.errors import DataError
from mambabench.extract.settings import ExtractSettings
from mambabench.extract.works import plan_works
from mambabench.probe.data import TaskRows
from mambabench.probe.estimate import OpenCell, estimate, stand_in
from mambabench.probe.made_rows import MadeRows, pools_of, runs_of
from mambabench.probe.measured import (
    Limits,
    Span,
    Stopwatch,
    TimedJob,
    Timing,
    measure,
    unit_seconds,
)
from mambabench.probe.plan import ProbePlan, ProbeUnit
from mambabench.probe.protocols import resolve_protocol
from mambabench.probe.units import unit_steps
from mambabench.store.estimate import PlannedTask
from mambabench.store.open import list_stored_tasks

SPAN = Span(least=16, most=400)
CUT = TimedJob(0, 0, seconds=3.0, before_s=1.0, n_rounds=4, whole=False)


def test_whole_units_are_the_measure_and_others_do_not_count() -> None:
    jobs = [TimedJob(unit, phase, 1.0 + unit) for unit in (0, 1) for phase in (0, 1)]
    timing = Timing((*jobs, replace(CUT, unit=2)), n_first=1, ended=frozenset({0, 1}))
    assert unit_seconds(timing, SPAN, 7) == pytest.approx((2 * 1.0 + 2 * 2.0) / 2)


def test_a_trial_that_was_cut_short_goes_on_at_its_speed() -> None:
    """2 s for 4 rounds, after 1 s before them."""
    alone = Timing((CUT,), n_first=8, ended=frozenset())
    assert unit_seconds(alone, SPAN, 4) == pytest.approx(12 * (1 + 0.5 * (16 * 400) ** 0.5))
    known = Timing((CUT, TimedJob(0, 0, 10.0, n_rounds=20)), n_first=2, ended=frozenset())
    assert unit_seconds(known, SPAN, 0) == pytest.approx(2 * fmean([1 + 0.5 * 20, 10.0]))
    later = replace(CUT, n_rounds=100)  # beyond what is known of others
    beyond = Timing((later, TimedJob(0, 0, 10.0, n_rounds=20)), n_first=2, ended=frozenset())
    assert unit_seconds(beyond, SPAN, 0) == pytest.approx(2 * fmean([1 + 2 / 100 * 200, 10.0]))
    steps = Timing((CUT,), n_first=1, ended=frozenset())
    assert unit_seconds(steps, Span(5000, 5000), 0) == pytest.approx(1 + 0.5 * 5000)
    without = Timing((replace(CUT, n_rounds=0),), n_first=1, ended=frozenset())
    assert unit_seconds(without, SPAN, 0) == pytest.approx(6.0)


class _Clock:
    """CPU seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class _Run:
    """Units of trials on a clock: seconds a round, as many rounds as are told."""

    def __init__(self, limits: Limits, rounds: list[int], round_s: float = 1.0) -> None:
        self.clock = _Clock()
        self.watch = Stopwatch(limits, self.clock, lambda: 3 * self.clock.now)
        self.rounds, self.round_s = rounds, round_s
        self.n_units = 0

    def _trial(self, n: int) -> int:
        self.clock.now += 0.5  # before its first round
        for _ in range(n):
            if self.watch.is_set():
                raise Stopped
            self.clock.now += self.round_s
        return n

    def unit(self, index: int, folder: Path) -> Generator[list[Job], list[Any], int]:
        self.n_units += 1
        results = yield [Job(lambda n=n: self._trial(n)) for n in self.rounds]  # type: ignore[misc]
        assert results == self.rounds  # in their order, whatever the order they ran in
        (last,) = yield [Job(lambda: self._trial(1))]
        return last

    def timing(self, n_units: int) -> Timing:
        return measure(self.unit, n_units, 1, self.watch)


def test_cheap_units_are_measured_whole_and_as_many_as_time_allows() -> None:
    run = _Run(Limits(trial_s=100, cell_s=100, begun_s=10.0, trials=4), [2, 4])
    timing = run.timing(5)
    assert timing.ended == {0, 1}  # 8.5 s a unit: the third would begin after 10 s
    assert timing.n_first == 2
    assert unit_seconds(timing, SPAN, 0) == pytest.approx(2.5 + 4.5 + 1.5)
    assert {job.wall_s / job.seconds for job in timing.jobs} == {3.0}
    assert [job.before_s for job in timing.jobs] == [0.5] * 6


def test_long_trials_are_cut_short_and_few_begin() -> None:
    run = _Run(Limits(trial_s=3.0, cell_s=1.0, begun_s=100.0, trials=2), [50] * 6)
    timing = run.timing(1)
    assert not timing.ended
    assert timing.n_first == 6
    assert [(job.n_rounds, job.seconds, job.whole) for job in timing.jobs] == [(3, 3.5, False)] * 2
    least = _Run(Limits(trial_s=0.0, cell_s=1.0, begun_s=100.0, trials=1), [50]).timing(1)
    assert [job.n_rounds for job in least.jobs] == [1]  # one round it has


def test_a_unit_that_fails_of_itself_says_so() -> None:
    def failing(index: int, folder: Path) -> Generator[list[Job], list[Any], int]:
        yield [Job(lambda: None)]
        raise DataError("no rows")

    watch = Stopwatch(Limits(1, 1, 1, 1), _Clock(), _Clock())
    with pytest.raises(DataError, match="no rows"):
        measure(failing, 1, 1, watch)


def test_runs_and_pools_are_of_rows_with_the_same_labels() -> None:
    labels = np.array([[1, 0], [1, 0], [0, 1], [1, 0]], np.uint8)
    assert list(runs_of(labels)) == [(0, 2), (2, 3), (3, 4)]
    rows = np.arange(4, dtype=np.float32)[:, None]
    pools = pools_of([(rows, labels), (rows + 10, labels)])
    assert {tuple(np.frombuffer(k, np.uint8)): v[:, 0].tolist() for k, v in pools.items()} == {
        (1, 0): [0, 1, 3, 10, 11, 13],
        (0, 1): [2, 12],
    }


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("estimate")
    demo.generate(out / "tasks")
    names = ("demo_vowel", "demo_pitch", "demo_events")
    mambabench.extract("logmel_stats", out / "tasks", names, out, jobs=1)
    return out


def _planned(out: Path, task: str, share: float) -> tuple[PlannedTask, TaskRows]:
    """Return the plan of a stored task with a share of its rows as sample, and all its rows."""
    (stored,) = (one for one in list_stored_tasks(out) if one.task.name.startswith(task))
    settings = ExtractSettings(out=out)
    (work,) = plan_works("logmel_stats", discover([out / "tasks"], (task,)), settings, "cpu")
    rows = TaskRows(stored, kit=False)
    rng = np.random.default_rng(3)
    sample = {}
    for split in stored.task.splits:
        one = rows._embeddings(split)
        flat = np.asarray(one.embeddings).reshape(len(one.embeddings), -1)
        for i, clip in enumerate(one.clip_names):
            if rng.random() < share:
                sample[f"{split}/{clip}"] = flat[one.offsets[i] : one.offsets[i + 1]]
    return PlannedTask(work.plan, work.rate, sample), rows


def _n_epochs(rows: TaskRows) -> float:
    """Return the mean over the trials of two seeds."""
    plan = ProbePlan(rows, resolve_protocol("sound", "default", False), threading.Event())
    trials = [job for seed in (0, 1) for job in next(unit_steps(ProbeUnit(plan, seed, "")))]
    return fmean(job.run().n_epochs for job in trials)


@pytest.mark.parametrize("task", ["demo_vowel", "demo_pitch"])
def test_made_rows_train_about_as_long_as_real_ones(extracted: Path, task: str) -> None:
    planned, real = _planned(extracted, task, 0.4)
    made = MadeRows(stand_in(planned), planned, kit=False)
    assert 0.5 < _n_epochs(made) / _n_epochs(real) < 2


@pytest.mark.parametrize("task", ["demo_vowel", "demo_events"])
def test_made_rows_keep_the_sample_and_the_labels_of_every_row(extracted: Path, task: str) -> None:
    planned, real = _planned(extracted, task, 0.3)
    made = MadeRows(stand_in(planned), planned, kit=False)
    for fold in real.folds:
        one, other = made.training(fold), real.training(fold)
        assert one.clip_names == other.clip_names
        np.testing.assert_array_equal(one.offsets, other.offsets)
        np.testing.assert_array_equal(one.targets, other.targets)
        assert np.isfinite(one.embeddings).all()
        same = (one.embeddings == other.embeddings).all(axis=1).mean()
        assert 0.2 < same < 0.5
    assert planned.sample


def test_a_label_that_no_sample_has_gets_a_place_of_its_own(extracted: Path) -> None:
    planned, _ = _planned(extracted, "demo_vowel", 0.5)
    task = planned.plan.task
    of = {f"{split}/{c.name}": c.labels[0] for split in task.splits for c in task.clips[split]}
    lost = task.labels[0]
    kept = {name: rows for name, rows in planned.sample.items() if of[name] != lost}
    made = MadeRows(stand_in(planned), replace(planned, sample=kept), kit=False)
    (fold,) = made.folds
    rows = made.training(fold)
    centres = [rows.embeddings[rows.targets == i].mean(axis=0) for i in range(len(task.labels))]
    distances = [float(np.abs(centres[0] - other).mean()) for other in centres[1:]]
    assert min(distances) > 0.01 * float(np.abs(rows.embeddings).mean())


def test_nothing_is_said_without_a_sample(extracted: Path) -> None:
    planned, _ = _planned(extracted, "demo_vowel", 0.0)
    protocol = resolve_protocol("knn", "default", False)
    (row,) = estimate([OpenCell(stand_in(planned), protocol, 1, planned)], 1)
    assert row.seconds is None
    assert "not known before the embeddings are there" in row.note


def test_busy_neighbours_stretch_every_cell_alike(
    extracted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mambabench.probe.estimate as module

    stored = list_stored_tasks(extracted)[0]
    protocol = resolve_protocol("knn", "default", False)
    cells = [OpenCell(stored, protocol, n) for n in (1, 0, 1)]
    costs = iter([(2.0, 1.0, 1.0), (6.0, 1.0, 9.0)])

    def measured(cell: OpenCell, n_threads: int) -> Any:
        cpu_s, seconds, wall_s = next(costs)
        return module._CellCost(cpu_s, (TimedJob(0, 0, seconds, wall_s=wall_s),))

    monkeypatch.setattr(module, "_measured", measured)
    rows = estimate(cells, 2)
    assert [row.seconds for row in rows] == [10.0, 0.0, 30.0]
    assert [row.note for row in rows] == ["", "there already", ""]
