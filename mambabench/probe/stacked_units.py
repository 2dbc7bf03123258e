"""Run the units of one task on a GPU: trials of one shape and fold train as one stack."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from mambabench.engine.jobs import Job, Steps
from mambabench.errors import MambabenchError
from mambabench.probe.plan import StackableTrial
from mambabench.probe.protocols import HeadConfig
from mambabench.probe.stacked import StackedTrial, stack_key, train_stack
from mambabench.probe.trainer import PreparedFold

__all__ = ["LARGEST_STACK", "run_stacked"]

LARGEST_STACK = 256  # heads; bounds the memory of weights and activations
K = TypeVar("K")


def run_stacked(
    units: Iterable[tuple[K, Steps]],
    done: Callable[[K, Any], None],
    *,
    device: str,
    stop: threading.Event | None = None,
) -> None:
    """Do all units together, phase by phase: every trial of a phase is trained in some stack.

    `done` is called with a key and its result, or the MambabenchError that ended the unit.
    """
    active: list[tuple[K, Steps, list[Job]]] = []
    for key, steps in units:
        _advance(key, steps, None, active, done)
    while active:
        jobs = [job for _, _, asked in active for job in asked]
        results = iter(_results(jobs, device, stop))
        going: list[tuple[K, Steps, list[Job]]] = []
        for key, steps, asked in active:
            _advance(key, steps, [next(results) for _ in asked], going, done)
        active = going


def _advance(
    key: K,
    steps: Steps,
    results: list[Any] | None,
    going: list[tuple[K, Steps, list[Job]]],
    done: Callable[[K, Any], None],
) -> None:
    """Give a unit its results; list it with what it asks for next, or hand over its end."""
    failed = [result for result in results or [] if isinstance(result, MambabenchError)]
    try:
        if failed:
            steps.close()
            raise failed[0]
        going.append((key, steps, next(steps) if results is None else steps.send(results)))
    except StopIteration as end:
        done(key, end.value)
    except MambabenchError as error:
        done(key, error)


def _results(jobs: Sequence[Job], device: str, stop: threading.Event | None) -> list[Any]:
    """Return each job's result or error, in order."""
    results: list[Any] = [None] * len(jobs)
    stacks: dict[tuple[int, HeadConfig], list[int]] = {}
    folds: dict[int, PreparedFold] = {}
    for i, job in enumerate(jobs):
        try:
            if not isinstance(job.stackable, StackableTrial):
                results[i] = job.run()
                continue
            fold = job.stackable.prepared()
            folds[id(fold)] = fold
            stacks.setdefault((id(fold), stack_key(job.stackable.config)), []).append(i)
        except MambabenchError as error:
            results[i] = error
    for (fold_id, _), members in stacks.items():
        for start in range(0, len(members), LARGEST_STACK):
            part = members[start : start + LARGEST_STACK]
            asked = [trial for i in part if isinstance(trial := jobs[i].stackable, StackableTrial)]
            trained = train_stack(
                [StackedTrial(trial.config, trial.seed) for trial in asked],
                folds[fold_id],
                kit=asked[0].kit,
                device=device,
                stop=stop,
            )
            for i, result in zip(part, trained, strict=True):
                results[i] = result
    return results
