"""From fitted heads of classes to the outcome of every fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mambabench.engine.jobs import Job, Steps
from mambabench.probe.fitted import Fitted, score_fold
from mambabench.probe.plan import ProbePlan, ProbeUnit
from mambabench.probe.trainer import PreparedFold

__all__ = ["fitted_once", "scored"]


def scored(plan: ProbePlan, fitted: Sequence[Fitted]) -> Steps:
    """Score every fold's head on its test rows; returns the outcomes in the order of the folds."""
    outcomes = yield [
        Job(lambda head=head, fold=fold: score_fold(head, plan.rows.test(fold), plan.task))  # type: ignore[misc]
        for head, fold in zip(fitted, plan.rows.folds, strict=True)
    ]
    return outcomes


def fitted_once(fit: Callable[[PreparedFold], Fitted]) -> Callable[[ProbeUnit], Steps]:
    """Return the family whose `fit` makes and chooses the head of a fold in one call."""

    def steps(unit: ProbeUnit) -> Steps:
        plan = unit.plan
        fitted = yield [
            Job(lambda fold=fold: fit(plan.prepared(fold, 0)))  # type: ignore[misc]
            for fold in plan.rows.folds
        ]
        return (yield from scored(plan, fitted))

    return steps
