"""A family from its ``plan_fold``: train the trials of all folds, then choose and score in each."""

from __future__ import annotations

import time
from collections.abc import Callable

from mambabench.benchmarks.task import Fold
from mambabench.engine.jobs import Job, Steps
from mambabench.probe.cache import CACHED_FROM_S
from mambabench.probe.families.trials import (
    FoldPlan,
    Running,
    TrainedTrial,
    Trial,
    load_trained,
    save_trained,
)
from mambabench.probe.fitted import FoldOutcome
from mambabench.probe.plan import ProbeUnit
from mambabench.probe.protocols import Protocol
from mambabench.store.embeddings import StoredTask

__all__ = ["folded"]

PlanFold = Callable[[StoredTask, Protocol, int, Fold], FoldPlan]


def folded(plan_fold: PlanFold) -> Callable[[ProbeUnit], Steps]:
    """Return the family that trains what `plan_fold` plans: (stored, protocol, seed, fold)."""

    def steps(unit: ProbeUnit) -> Steps:
        """Train the trials of all folds, then let each fold choose among its own and be scored."""
        plan = unit.plan
        folds = [
            plan_fold(plan.rows.stored, plan.protocol, unit.seed, fold) for fold in plan.rows.folds
        ]
        fits = [
            Job(_kept_trial(unit, trial), cost=trial.cost)
            for fold in folds
            for trial in fold.trials
        ]
        trained: list[TrainedTrial] = (yield fits) if fits else []
        running = Running(plan.device, plan.stop)
        jobs, start = [], 0
        for fold in folds:
            own = trained[start : start + len(fold.trials)]
            start += len(own)

            def finish(fold: FoldPlan = fold, own: list[TrainedTrial] = own) -> FoldOutcome:
                return fold.finish(own, running)

            jobs.append(Job(finish))
        return (yield jobs)

    return steps


def _kept_trial(unit: ProbeUnit, trial: Trial) -> Callable[[], TrainedTrial]:
    """Return the trial's job: from the cache where it is done, to the cache where it took long."""
    plan, cache = unit.plan, unit.cache

    def run() -> TrainedTrial:
        if cache is None:
            return trial.run(Running(plan.device, plan.stop))
        stem = cache.folder / f"{cache.inputs_sha256[:16]}-{trial.name}"
        done = load_trained(stem.with_suffix(".npz"))
        if done is not None:
            return done
        snapshot = stem.with_suffix(".pt")
        started = time.monotonic()
        trained = trial.run(Running(plan.device, plan.stop, snapshot))
        if time.monotonic() - started >= CACHED_FROM_S:
            save_trained(stem.with_suffix(".npz"), trained)
        snapshot.unlink(missing_ok=True)
        return trained

    return run
