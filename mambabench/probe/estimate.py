"""Say what probes would take, from a few units of each: on what is stored, or on made rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mambabench.engine.jobs import Job, Steps
from mambabench.errors import MambabenchError
from mambabench.probe.data import TaskRows
from mambabench.probe.families.recipes import SuiteSettings, recipe_of, steps_of
from mambabench.probe.made_rows import MadeRows
from mambabench.probe.measured import (
    Limits,
    Span,
    Stopwatch,
    TimedJob,
    measure,
    unit_seconds,
)
from mambabench.probe.plan import ProbePlan, ProbeUnit, StackableTrial
from mambabench.probe.protocols import GridSettings, Protocol
from mambabench.probe.session import Key, recorded
from mambabench.probe.units import unit_steps
from mambabench.store.embeddings import StoredTask
from mambabench.store.estimate import Estimate, PlannedTask, peak_bytes

__all__ = ["OpenCell", "estimate", "stand_in"]

LIMITS = Limits(trial_s=2.0, cell_s=6.0, begun_s=1.0, trials=4)


@dataclass(frozen=True)
class OpenCell:
    """What is left to do of one encoder on one task under one protocol."""

    stored: StoredTask
    protocol: Protocol
    n_units: int
    planned: PlannedTask | None = None  # where nothing is stored yet


@dataclass(frozen=True)
class _CellCost:
    """What a cell takes."""

    cpu_s: float  # of the thread that is longest at work
    jobs: tuple[TimedJob, ...]  # that say so


def estimate(cells: Sequence[OpenCell], n_threads: int) -> tuple[Estimate, ...]:
    """Return a row per cell. Units are samples, run as a run would; their records are not kept.

    CPU time is measured, and made wall time by what all the samples together had of the machine:
    who else is busy shows in every cell alike, not in the one that was measured just then.
    """
    costs = [_cost(cell, n_threads) for cell in cells]
    jobs = [job for cost in costs if isinstance(cost, _CellCost) for job in cost.jobs]
    cpu_s = sum(job.seconds for job in jobs)
    stretch = sum(job.wall_s for job in jobs) / cpu_s if cpu_s else 1.0
    return tuple(_row(cell, cost, stretch) for cell, cost in zip(cells, costs, strict=True))


def stand_in(planned: PlannedTask) -> StoredTask:
    """Return the stored task that a plan will become, without its arrays."""
    spec = planned.plan.spec
    task = planned.plan.task
    return StoredTask(task.directory, spec.label, spec.identity, task, spec.layers, {})


def _cost(cell: OpenCell, n_threads: int) -> _CellCost | str:
    """Return what a cell takes, or why that is not known."""
    if not cell.n_units:
        return _CellCost(0.0, ())
    try:
        return _measured(cell, n_threads)
    except MambabenchError as error:
        return str(error)


def _row(cell: OpenCell, cost: _CellCost | str, stretch: float) -> Estimate:
    note = cost if isinstance(cost, str) else "" if cell.n_units else "there already"
    n_test = sum(len(clips) for clips in cell.stored.task.clips.values())
    return Estimate(
        stage="probe",
        encoder=cell.stored.encoder,
        task=cell.stored.task.name,
        n=cell.n_units,
        seconds=None if isinstance(cost, str) else cost.cpu_s * stretch,
        disk_bytes=cell.n_units * n_test * min(len(cell.stored.task.labels), 50) * 4,
        memory_bytes=peak_bytes(),
        note=note,
    )


def _measured(cell: OpenCell, n_threads: int) -> _CellCost:
    protocol = cell.protocol
    if protocol.exact:  # the same trials, which must follow one another
        protocol = replace(protocol, settings=replace(protocol.settings, exact=False))
        n_threads = 1
    rows = TaskRows(cell.stored, kit=protocol.kit)
    if cell.planned is not None:
        rows = MadeRows(cell.stored, cell.planned, protocol.kit)
        rows.read()  # making them is no part of a run
    plan = ProbePlan(rows, protocol)
    once_s, first = _warmed(plan)
    plan.stop = watch = Stopwatch(LIMITS)

    def unit(seed: int, folder: Path) -> Steps:
        key = Key(cell.stored, protocol, seed, folder / str(seed), "")
        return recorded(key, lambda: plan, "cpu")

    timing = measure(unit, cell.n_units, n_threads, watch)
    n_later = len(rows.folds) - 1 if protocol.kit else 0  # the best point again on other folds
    unit_s = unit_seconds(timing, _span(plan, first), n_later)
    n_busy = min(n_threads, cell.n_units * timing.n_first)
    return _CellCost(once_s + unit_s * cell.n_units / n_busy, timing.jobs)


def _warmed(plan: ProbePlan) -> tuple[float, Job]:
    """Return the CPU seconds spent once (rows read, kernels compiled), and a first job."""
    plan.stop = watch = Stopwatch(replace(LIMITS, trial_s=0.0))

    def warm() -> tuple[float, Job]:
        torch.set_num_threads(1)
        start = time.thread_time()
        first = next(unit_steps(ProbeUnit(plan, 0, "")))[0]
        if not isinstance(first.stackable, StackableTrial):
            return 0.0, first  # it cannot be cut short: the measurement has it all
        watch.timed(first, TimedJob(0, 0))
        return time.thread_time() - start, first

    with ThreadPoolExecutor(1) as thread:  # of one core, as the trials of a run are
        return thread.submit(warm).result()


def _span(plan: ProbePlan, job: Job) -> Span:
    """Return how many rounds the trials of a plan have."""
    protocol = plan.protocol
    if isinstance(protocol.settings, SuiteSettings):
        total, _ = steps_of(recipe_of(plan.task, protocol), protocol)
        return Span(total, total)
    if isinstance(protocol.settings, GridSettings) and isinstance(job.stackable, StackableTrial):
        config = job.stackable.config
        least = (config.patience + 1) * config.check_every
        return Span(min(least, config.max_epochs), config.max_epochs)
    return Span(1, 1)
