"""The unit of work: one (encoder, task, protocol, seed), from its trials to its record.

A unit is a generator of lists of jobs: it hands out the trials that can run now, takes their
results, and hands out what follows from them. So one pool runs the trials of all units, and the
exact stream, whose trials must follow one another, runs the same generator on one thread.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

from mambabench.benchmarks.metrics import METRICS
from mambabench.engine.jobs import Job, Steps
from mambabench.plugins import resolve
from mambabench.probe.families.recipes import SuiteSettings
from mambabench.probe.fitted import FoldOutcome
from mambabench.probe.plan import ProbePlan, ProbeUnit
from mambabench.probe.protocols import PROTOCOLS, Inapplicable
from mambabench.store.records import RunRecord, StoredArrays

__all__ = ["UnitResult", "unit_steps"]


@dataclass(frozen=True)
class UnitResult:
    """What a unit came to."""

    record: RunRecord
    predictions: StoredArrays


def unit_steps(unit: ProbeUnit) -> Generator[list[Job], list[Any], UnitResult]:
    """Hand out the unit's jobs and return its record and predictions."""
    outcomes: list[FoldOutcome] = yield from _family(unit)(unit)
    return _result(unit, outcomes)


def _family(unit: ProbeUnit) -> Callable[[ProbeUnit], Steps]:
    """Return the protocol's family for the task's kind; Inapplicable where it has none."""
    task, protocol = unit.plan.task, unit.plan.protocol
    if task.kind in protocol.families:
        family: Callable[[ProbeUnit], Steps] = resolve(protocol.families[task.kind])
        return family
    others = [name for name, other in PROTOCOLS.items() if task.kind in other.families]
    reason = protocol.unfit.get(
        task.kind,
        f"it has no family of heads for {task.kind} tasks; use --protocol "
        f"{' or '.join(others) if others else 'of a package that has one'}",
    )
    raise Inapplicable(f"{protocol.name} does not apply to {task.name}: {reason}")


def _result(unit: ProbeUnit, outcomes: list[FoldOutcome]) -> UnitResult:
    plan, task = unit.plan, unit.plan.task
    stored = plan.rows.stored
    folds = tuple(
        replace(outcome.result, fold=fold.test)
        for outcome, fold in zip(outcomes, plan.rows.folds, strict=True)
    )
    metric = METRICS[task.evaluation[0]]
    scores = [fold.scores[metric.name] for fold in folds]
    undefined = [fold.fold for fold, score in zip(folds, scores, strict=True) if score is None]
    record = RunRecord(
        encoder=stored.encoder,
        encoder_identity=stored.encoder_identity,
        task=task.name,
        protocol=plan.protocol.name,
        seed=unit.seed,
        layers=stored.layers,
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        n_labels=len(task.labels),
        folds=folds,
        score=None if undefined else statistics.fmean(s for s in scores if s is not None),
        reason=f"{metric.name} is undefined on {', '.join(undefined)}" if undefined else None,
        restricted=task.restricted,
        inputs_sha256=unit.inputs_sha256,
        missing=tuple(sorted(stored.missing)),
        protocol_version=plan.protocol.version,
        warnings=tuple(f"{clip}: {note}" for clip, note in sorted(stored.warnings.items())),
        precision=stored.precision,
        sample_rate_hz=stored.sample_rate_hz,
        resampled_from_hz=stored.resampled_from_hz,
        frames=stored.frames,
        limited=task.limited,
        notes=_notes(plan),
    )
    predictions = {
        f"{fold.fold}/{name}": array
        for fold, outcome in zip(folds, outcomes, strict=True)
        for name, array in outcome.predictions.items()
    }
    return UnitResult(record, predictions)


def _notes(plan: ProbePlan) -> tuple[str, ...]:
    """Return what a reader of the plan's records must know: of the task, and of the protocol."""
    settings = plan.protocol.settings
    if not isinstance(settings, SuiteSettings):
        return plan.task.notes
    return tuple(dict.fromkeys((*plan.task.notes, *settings.notes(plan.task, settings.clean))))
