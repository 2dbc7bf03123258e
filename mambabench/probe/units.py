"""The unit of work: one (encoder, task, protocol, seed), from its trials to its record.

A unit is a generator of lists of jobs: it hands out the trials that can run now, takes their
results, and hands out what follows from them. So one pool runs the trials of all units, and the
exact stream, whose trials must follow one another, runs the same generator on one thread.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, replace
from typing import Any

from mambabench.benchmarks.metrics import METRICS
from mambabench.benchmarks.task import Fold
from mambabench.engine.jobs import Job, Steps, run_inline
from mambabench.probe.families.knn import fit_knn
from mambabench.probe.families.linear import fit_linear
from mambabench.probe.families.superb import plan_folds, record_notes
from mambabench.probe.families.trials import (
    FoldPlan,
    Running,
    Trained,
    Trial,
    load_trained,
    save_trained,
)
from mambabench.probe.fitted import Fitted, FoldOutcome, HeadPredictor, score_fold
from mambabench.probe.heads.streams import TrialStreams, stream_seed
from mambabench.probe.monitor import chosen
from mambabench.probe.plan import StackableTrial, TaskPlan, Unit
from mambabench.probe.protocols import HeadConfig, Inapplicable, grid_points
from mambabench.probe.selection import mean_values, selection_folds
from mambabench.probe.trainer import TrialResult, train
from mambabench.store.records import Predictions, RunRecord

__all__ = ["UnitResult", "unit_steps"]


CACHED_FROM_S = 2.0  # a trial that took less is sooner trained again than kept


@dataclass(frozen=True)
class UnitResult:
    """What a unit came to."""

    record: RunRecord
    predictions: Predictions


def unit_steps(unit: Unit) -> Generator[list[Job], list[Any], UnitResult]:
    """Hand out the unit's jobs and return its record and predictions."""
    plan = unit.plan
    if plan.protocol.family == "superb":
        return _result(unit, (yield from _superb_steps(unit)))
    if plan.task.prediction_type not in ("multiclass", "multilabel"):
        raise Inapplicable(
            f"{plan.protocol.name} does not apply to {plan.task.name}: its clips are no examples "
            f"of classes ({plan.task.prediction_type}); use --protocol superb or superb-clean"
        )
    family = _FAMILIES[plan.protocol.family]
    if plan.protocol.exact:
        if plan.rows.is_event:
            raise Inapplicable(
                f"the exact stream does not apply to {plan.task.name}: hear-eval-kit does not "
                "finish timestamp tasks, so there is no run to replay; leave --exact out"
            )
        streams = TrialStreams(unit.seed, exact=True)
        (fitted,) = yield [Job(lambda: run_inline(family(unit, streams)), cost=math.inf)]
    else:
        fitted = yield from family(unit, None)
    outcomes: list[FoldOutcome] = yield [
        Job(lambda head=head, fold=fold: score_fold(head, plan.rows.test(fold), plan.task))  # type: ignore[misc]
        for head, fold in zip(fitted, plan.rows.folds, strict=True)
    ]
    return _result(unit, outcomes)


def _result(unit: Unit, outcomes: list[FoldOutcome]) -> UnitResult:
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
        notes=record_notes(plan) if plan.protocol.family == "superb" else task.notes,
    )
    predictions = {
        f"{fold.fold}/{name}": array
        for fold, outcome in zip(folds, outcomes, strict=True)
        for name, array in outcome.predictions.items()
    }
    return UnitResult(record, predictions)


def _superb_steps(unit: Unit) -> Steps:
    """Train the trials of all folds, then let each fold choose among its own and be scored."""
    plan = unit.plan
    folds = plan_folds(plan, unit.seed)
    fits = [
        Job(_kept_trial(unit, trial), cost=trial.cost) for fold in folds for trial in fold.trials
    ]
    trained: list[Trained] = (yield fits) if fits else []
    running = Running(plan.device, plan.stop)
    jobs, start = [], 0
    for fold in folds:
        own = trained[start : start + len(fold.trials)]
        start += len(own)

        def finish(fold: FoldPlan = fold, own: list[Trained] = own) -> FoldOutcome:
            return fold.finish(own, running)

        jobs.append(Job(finish))
    return (yield jobs)


def _kept_trial(unit: Unit, trial: Trial) -> Callable[[], Trained]:
    """Return the trial's job: from the cache where it is done, to the cache where it took long."""
    plan, cache = unit.plan, unit.cache

    def run() -> Trained:
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


def _mlp_steps(unit: Unit, streams: TrialStreams | None) -> Steps:
    """Search the grid and return the fitted head of every fold."""
    return (yield from (_kit_steps if unit.plan.protocol.kit else _nested_steps)(unit, streams))


def _kit_steps(unit: Unit, streams: TrialStreams | None) -> Steps:
    """Train all points on the first fold and the best of them again on the others, as the kit."""
    plan = unit.plan
    points = grid_points(plan.protocol, plan.task, unit.seed)
    first, *others = plan.rows.folds
    results: list[TrialResult] = yield [_trial(unit, first, p, streams) for p in points]
    best = chosen([result.value for result in results])
    winners = [results[best]]
    if others:
        winners += yield [_trial(unit, fold, points[best], streams) for fold in others]
    return [
        _fitted(plan, fold, points[best], winner)
        for fold, winner in zip(plan.rows.folds, winners, strict=True)
    ]


def _nested_steps(unit: Unit, streams: TrialStreams | None) -> Steps:
    """Choose each head's point on the folds that are not tested by it (`selection_folds`)."""
    plan = unit.plan
    points = grid_points(plan.protocol, plan.task, unit.seed)
    groups = [
        selection_folds(plan.task, fold, plan.protocol.selected_on) for fold in plan.rows.folds
    ]
    wanted = [
        (point, part, fold)
        for point in points
        for fold, group in zip(plan.rows.folds, groups, strict=True)
        for part in group
    ]
    done: list[TrialResult] = yield [
        _trial(unit, part, point, streams, own=part == fold) for point, part, fold in wanted
    ]
    results = iter(done)
    by_point = [[[next(results) for _ in group] for group in groups] for _ in points]
    fitted = []
    for i, fold in enumerate(plan.rows.folds):
        table = [[result.value for result in by_fold[i]] for by_fold in by_point]
        best = chosen(mean_values(table))
        fitted.append(_fitted(plan, fold, points[best], by_point[best][i][0]))
    return fitted


def _trial(
    unit: Unit,
    fold: Fold,
    config: HeadConfig,
    streams: TrialStreams | None,
    *,
    own: bool = True,
) -> Job:
    """Return the job of one fit. One that only helps to choose (`own` false) is told from the head
    of the same test fold by its validation fold, in its stream as in its cache."""
    plan = unit.plan
    point = json.dumps(asdict(config), sort_keys=True)
    part = fold.test if own else f"{fold.test}~{fold.valid}"
    name = f"{part}-{hashlib.sha256(point.encode()).hexdigest()[:16]}"

    seed = stream_seed(plan.task.name, plan.protocol.name, unit.seed, part, point)

    def run() -> TrialResult:
        cached = unit.cache.load(name) if unit.cache is not None and streams is None else None
        if cached is not None:
            return cached
        prepared = plan.prepared(fold, config.batch_size)
        own = streams or TrialStreams(seed)
        started = time.monotonic()
        result = train(config, prepared, own, kit=plan.protocol.kit, stop=plan.stop)
        long = time.monotonic() - started >= CACHED_FROM_S
        if unit.cache is not None and streams is None and long:
            unit.cache.save(name, result)
        return result

    stackable = StackableTrial(
        lambda: plan.prepared(fold, config.batch_size), config, seed, plan.protocol.kit
    )
    return Job(
        run,
        cost=config.hidden_layers * 10 - math.log10(config.lr),
        stackable=None if streams is not None else stackable,
    )


def _fitted(plan: TaskPlan, fold: Fold, config: HeadConfig, result: TrialResult) -> Fitted:
    prepared = plan.prepared(fold, config.batch_size)
    return Fitted(
        predict=HeadPredictor(result.parameters, prepared.scaler, prepared.multilabel),
        grid_point=asdict(config),
        validation_score=result.score,
        head_sha256=result.parameters.sha256(),
        best_epoch=result.best_epoch,
        n_epochs=result.n_epochs,
        post_processing=result.post_processing,
        n_train=len(prepared.rows),
        batch_size=prepared.batch_size,
        n_steps=result.n_epochs * prepared.n_steps,
    )


def _linear_steps(unit: Unit, streams: TrialStreams | None) -> Steps:
    """Fit logistic regressions on every fold, each with the strength that validates best there."""
    plan = unit.plan
    fits = yield [
        Job(lambda fold=fold: fit_linear(plan.prepared(fold, 0)))  # type: ignore[misc]
        for fold in plan.rows.folds
    ]
    return fits


def _knn_steps(unit: Unit, streams: TrialStreams | None) -> Steps:
    """Choose the number of neighbours on every fold's validation rows."""
    plan = unit.plan
    if plan.rows.is_event:
        raise Inapplicable(
            f"knn does not apply to {plan.task.name}: neighbours vote on clips, a timestamp task "
            "asks for events; use linear, sound or a kit protocol"
        )
    fits = yield [
        Job(lambda fold=fold: fit_knn(plan.prepared(fold, 0)))  # type: ignore[misc]
        for fold in plan.rows.folds
    ]
    return fits


_FAMILIES: dict[str, Callable[[Unit, TrialStreams | None], Steps]] = {
    "mlp": _mlp_steps,
    "linear": _linear_steps,
    "knn": _knn_steps,
}
