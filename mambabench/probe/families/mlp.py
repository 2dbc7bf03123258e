"""Heads of a grid, trained by stochastic gradients; the best on validation rows is tested."""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import asdict

from mambabench.benchmarks.task import Fold
from mambabench.engine.jobs import Job, Steps, run_inline
from mambabench.probe.cache import CACHED_FROM_S
from mambabench.probe.families.scored import scored
from mambabench.probe.fitted import Fitted, HeadPredictor
from mambabench.probe.heads.streams import TrialStreams, stream_seed
from mambabench.probe.monitor import chosen
from mambabench.probe.plan import ProbePlan, ProbeUnit, StackableTrial
from mambabench.probe.protocols import HeadConfig, Inapplicable, grid_points
from mambabench.probe.selection import mean_values, selection_folds
from mambabench.probe.trainer import TrialResult, train

__all__ = ["steps"]


def steps(unit: ProbeUnit) -> Steps:
    """Search the grid and return the outcome of every fold's head."""
    plan = unit.plan
    if not plan.protocol.exact:
        return (yield from scored(plan, (yield from _fits(unit, None))))
    if plan.rows.is_event:
        raise Inapplicable(
            f"the exact stream does not apply to {plan.task.name}: hear-eval-kit does not "
            "finish timestamp tasks, so there is no run to replay; leave --exact out"
        )
    streams = TrialStreams(unit.seed, exact=True)
    (fitted,) = yield [Job(lambda: run_inline(_fits(unit, streams)), cost=math.inf)]
    return (yield from scored(plan, fitted))


def _fits(unit: ProbeUnit, streams: TrialStreams | None) -> Steps:
    """Return the fitted head of every fold."""
    return (yield from (_kit_steps if unit.plan.protocol.kit else _nested_steps)(unit, streams))


def _kit_steps(unit: ProbeUnit, streams: TrialStreams | None) -> Steps:
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


def _nested_steps(unit: ProbeUnit, streams: TrialStreams | None) -> Steps:
    """Choose each head's point on the folds that are not tested by it (`selection_folds`)."""
    plan = unit.plan
    points = grid_points(plan.protocol, plan.task, unit.seed)
    groups = [
        selection_folds(plan.task, fold, plan.protocol.settings.selected_on)
        for fold in plan.rows.folds
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
    unit: ProbeUnit,
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


def _fitted(plan: ProbePlan, fold: Fold, config: HeadConfig, result: TrialResult) -> Fitted:
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
