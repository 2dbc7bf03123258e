"""A unit of work as a generator of jobs: it hands out what can run now and takes the results."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

__all__ = ["Job", "Steps", "Stopped", "run_inline"]


@dataclass(frozen=True)
class Job:
    """One piece of work for one thread."""

    run: Callable[[], Any]
    cost: float = 0.0  # the dearest start first
    stackable: object = None  # what a device that trains many at once needs to know; else None


Steps = Generator[list[Job], list[Any], Any]


def run_inline(steps: Steps) -> Any:
    """Run a generator of jobs on the calling thread, one job after another."""
    try:
        jobs = next(steps)
        while True:
            jobs = steps.send([job.run() for job in jobs])
    except StopIteration as end:
        return end.value


class Stopped(Exception):  # noqa: N818 - not an error: somebody asked for it
    """The run was asked to stop in the middle of a trial."""
