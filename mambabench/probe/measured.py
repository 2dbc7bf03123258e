"""Train a few units of a cell for a limited time, and say what one would take on one thread."""

from __future__ import annotations

import math
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from statistics import fmean
from typing import Any

from mambabench.engine.jobs import Job, Steps, Stopped
from mambabench.engine.threads import Pool
from mambabench.errors import MambabenchError

__all__ = ["Limits", "Span", "Stopwatch", "TimedJob", "Timing", "measure", "unit_seconds"]

Clock = Callable[[], float]
GOLDEN = 0.618034  # its multiples, modulo 1, spread evenly


@dataclass(frozen=True)
class Limits:
    """How long a measurement may take, in CPU seconds of all threads."""

    trial_s: float  # after which one is cut short
    cell_s: float  # after which no trial begins
    begun_s: float  # after which no unit begins
    trials: int  # that begin all the same


@dataclass(frozen=True)
class Span:
    """How many epochs, or steps, a trial may have; the same where they are fixed."""

    least: int
    most: int


@dataclass(frozen=True)
class TimedJob:
    """A job of a unit that was measured."""

    unit: int
    phase: int
    seconds: float = 0.0  # of CPU
    before_s: float = 0.0  # of these, before the first round
    wall_s: float = 0.0
    n_rounds: int = 0  # epochs, or steps, that it began; 0 of a job that has none
    whole: bool = True  # it came to its end


@dataclass(frozen=True)
class Timing:
    """What was seen of a cell."""

    jobs: tuple[TimedJob, ...]
    n_first: int  # jobs of a unit's first phase
    ended: frozenset[int]  # units that came to their end


def unit_seconds(timing: Timing, span: Span, n_later: int) -> float:
    """Return the CPU seconds of one unit.

    Without a whole unit the first phase is as many jobs as their mean, and `n_later` trials follow.
    Of a trial that was cut short the rest is told from its speed and from the rounds of others.
    """
    if timing.ended:
        seconds = sum(job.seconds for job in timing.jobs if job.unit in timing.ended)
        return seconds / len(timing.ended)
    known = [job.n_rounds for job in timing.jobs if job.whole and job.n_rounds]
    first = [_expected_s(job, span, known) for job in timing.jobs if job.phase == 0]
    return fmean(first) * (timing.n_first + n_later)


def _expected_s(job: TimedJob, span: Span, known: Sequence[int]) -> float:
    """Return what a job takes; of one without rounds that was cut short, twice what it had."""
    if job.whole:
        return job.seconds
    if not job.n_rounds:
        return 2 * job.seconds
    if known and fmean(known) > job.n_rounds:
        n_rounds = fmean(known)
    else:  # it ends somewhere between: the middle, by factors
        n_rounds = math.sqrt(min(max(job.n_rounds, span.least), span.most) * span.most)
    return job.before_s + (job.seconds - job.before_s) * n_rounds / job.n_rounds


class Stopwatch(threading.Event):
    """Stands for a run's stop: every trial asks it once a round, and is cut short when late."""

    def __init__(
        self,
        limits: Limits,
        cpu: Clock = time.thread_time,
        wall: Clock = time.perf_counter,
    ) -> None:
        super().__init__()
        self._limits, self._cpu, self._wall = limits, cpu, wall
        self._own = threading.local()
        self._spent_s = 0.0
        self._n_begun = 0

    def is_set(self) -> bool:
        """Say whether the trial of this thread is late; one round it may have."""
        own, now = self._own, self._cpu()
        own.rounds.append(now)
        late: bool = now - own.start > self._limits.trial_s
        return late and len(own.rounds) > 1

    def begins_unit(self) -> bool:
        """Say whether there is time for another unit."""
        return self._spent_s <= self._limits.begun_s

    def begins_trial(self) -> bool:
        """Say whether there is time for another trial, and count it."""
        self._n_begun += 1
        return self._spent_s <= self._limits.cell_s or self._n_begun <= self._limits.trials

    def timed(self, job: Job, blank: TimedJob) -> tuple[Any, TimedJob]:
        """Run a job; return its result, and `blank` with what it took."""
        own, wall = self._own, self._wall()
        own.rounds, own.start = [], self._cpu()
        result, whole = None, True
        try:
            result = job.run()
        except Stopped:
            whole = False
        seconds = self._cpu() - own.start
        self._spent_s += seconds
        return result, replace(
            blank,
            seconds=seconds,
            before_s=own.rounds[0] - own.start if own.rounds else 0.0,
            wall_s=self._wall() - wall,
            n_rounds=len(own.rounds) - (not whole),  # the last was not begun
            whole=whole,
        )


class _CutShortError(MambabenchError):
    """A unit that cannot go on: one of its trials did not come to its end."""


def measure(
    units: Callable[[int, Path], Steps], n_units: int, n_threads: int, watch: Stopwatch
) -> Timing:
    """Run units on as many threads as a run does; ``units(i, folder)`` makes the i-th.

    Raises the MambabenchError of a unit that fails of itself.
    """
    seen: list[TimedJob] = []
    n_first: list[int] = []
    ends: dict[int, Any] = {}
    with tempfile.TemporaryDirectory() as folder:

        def begun() -> Iterator[tuple[int, Steps]]:
            for i in range(n_units):
                if i and not watch.begins_unit():
                    return
                yield i, _watched(i, units(i, Path(folder)), watch, seen, n_first)

        pool: Pool[int] = Pool(begun(), n_threads, ends.__setitem__, threading.Event())
        pool.run()
    failed = {unit: end for unit, end in ends.items() if isinstance(end, MambabenchError)}
    for end in failed.values():
        if not isinstance(end, _CutShortError):
            raise end
    return Timing(tuple(seen), n_first[0], frozenset(ends.keys() - failed.keys()))


def _watched(
    unit: int, steps: Steps, watch: Stopwatch, seen: list[TimedJob], n_first: list[int]
) -> Generator[list[Job], list[Any], Any]:
    """Hand out a unit's jobs, times taken, in an order that spreads the dear ones."""
    try:
        jobs = next(steps)
        n_first.append(len(jobs))
        for phase in count():
            blank = TimedJob(unit, phase)
            timed = [
                Job(_taken(blank, job, watch, seen), cost=(i * GOLDEN) % 1.0)
                for i, job in enumerate(jobs)
            ]
            jobs = steps.send((yield timed))
    except StopIteration as end:
        return end.value


def _taken(blank: TimedJob, job: Job, watch: Stopwatch, seen: list[TimedJob]) -> Callable[[], Any]:
    def run() -> Any:
        if blank.phase == 0 and not watch.begins_trial():
            raise _CutShortError("no time for it")
        result, taken = watch.timed(job, blank)
        seen.append(taken)
        if not taken.whole:
            raise _CutShortError("cut short")
        return result

    return run
