"""What the per-clip predictions of one encoder on one task say about its score.

The expensive part (resampled scores) is cached below ``<out>/report/cache``, named by the content
of the run records, which carry the hashes of their predictions. Deleting the cache is harmless.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import traceback
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.hear.clusters import cluster_names
from mambabench.benchmarks.metrics import Metric, metric_of
from mambabench.benchmarks.metrics.metric import Drawn, Ranked, Untested
from mambabench.errors import MambabenchError, StoreError
from mambabench.files import atomic_write, canonical_json
from mambabench.reading.arrays import UNREADABLE
from mambabench.report.cache import keep
from mambabench.report.runs import Group
from mambabench.report.statistics.clip_intervals import Units
from mambabench.report.statistics.resampling import (
    N_RESAMPLES,
    FoldClips,
    TestClips,
    fold_draws,
    shared,
)
from mambabench.report.statistics.scoring import (
    FoldScore,
    fewest_of_a_label,
    fold_score,
    unit_sizes,
)
from mambabench.store.records import read_predictions

__all__ = ["FENCED", "Evidence", "described", "gather", "is_cached", "read_test"]

Array = npt.NDArray[Any]
_VERSION = 3  # of the numbers in the cache: raise it when the statistics change

# What a defect of one task's files, or of our own rules for its metric, may raise: it costs that
# task its intervals and comparisons, not the reader the other tables.
FENCED = (
    *(MambabenchError, ArithmeticError, AssertionError, LookupError),
    *(AttributeError, OSError, TypeError, ValueError, zipfile.BadZipFile),
)


@dataclass(frozen=True)
class Evidence:
    """Resampled scores of one group; `reason` says why there are none."""

    key: str  # content hash of the runs
    n_test: int  # distinct test clips over the folds
    reason: str | None = None
    test_key: str = ""  # content hash of the test clips: equal for encoders on the same clips
    units: Units | None = None  # what was drawn: clusters or clips
    resampled: Array | None = None  # [n_resamples] float64, the seed-mean score
    parts: Array | None = None  # [n_units] float64, each unit's part of a score that is a sum


def gather(group: Group, cache: Path | None) -> Evidence:
    """Return the evidence of one group, from the cache where it has it.

    What goes wrong with its files or its metric is the `reason` of this group alone.
    """
    key = _key(group)
    file = cache / f"{key}.npz" if cache else None
    if file and file.is_file() and (stored := _load(file, key)):
        return stored
    try:
        evidence = _compute(group, key)
    except FENCED as error:
        declared = sum(fold.n_test for fold in group.runs[0].record.folds)
        return Evidence(key, declared, f"no bootstrap: {described(error)}")
    if file:
        keep(lambda: _save(file, evidence))
    return evidence


def _key(group: Group) -> str:
    content = [_VERSION, N_RESAMPLES, [run.digest for run in group.runs]]
    return hashlib.sha256(canonical_json(content)).hexdigest()


def is_cached(group: Group, cache: Path) -> bool:
    """Whether the cache has a file for the group, sound or not."""
    return (cache / f"{_key(group)}.npz").is_file()


def described(error: BaseException) -> str:
    """Return one line on an error: its text and, unless it is one of ours, its kind and place."""
    text = " ".join(str(error).split())
    if isinstance(error, MambabenchError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}{': ' + text if text else ''}"


def _compute(group: Group, key: str) -> Evidence:
    declared = sum(fold.n_test for fold in group.runs[0].record.folds)
    for run in group.runs:
        if run.record.score is None:
            seed = run.record.seed
            return Evidence(key, declared, f"seed {seed}: {run.record.reason or 'no score'}")
        if not run.has_predictions:
            what = (
                "hear-eval-kit's results name no clips"
                if run.source != "mambabench"
                else (f"the predictions of seed {run.record.seed} are missing")
            )
            return Evidence(key, declared, f"no bootstrap: {what}")
    metric = metric_of(group.metric)
    if isinstance(metric.statistic, Untested):
        return Evidence(key, declared, f"no bootstrap: {metric.statistic.reason}")
    test, ordered = read_test(group)
    try:
        scores = [
            fold_score(group.metric, fold, units)
            for fold, units in zip(ordered, test.unit_of, strict=True)
        ]
    except KeyError as error:
        return Evidence(key, test.n_clips, f"no bootstrap: nothing known of {error}")
    stored = float(
        np.mean([run.record.score for run in group.runs if run.record.score is not None])
    )
    found = float(np.mean([score.score for score in scores]))
    if not abs(found - stored) <= 1e-3:
        return Evidence(
            key,
            test.n_clips,
            f"no bootstrap: the predictions give {group.metric} {found:.4f}, "
            f"the records say {stored:.4f}",
        )
    if test.n_units < 2:
        return Evidence(key, test.n_clips, "no bootstrap: one cluster only")
    return Evidence(
        key=key,
        n_test=test.n_clips,
        test_key=_test_key(test, metric, ordered),
        units=_units(group.metric, test, [fold[0] for fold in ordered]),
        resampled=_resample(test, scores, recentre=_recentred(metric)),
        parts=_unit_parts(test, scores),
    )


def _recentred(metric: Metric) -> bool:
    """Whether drawing clips twice shifts the score: they rank beside themselves."""
    statistic = metric.statistic
    return isinstance(statistic, Ranked) or (isinstance(statistic, Drawn) and statistic.recentre)


def _test_key(
    test: TestClips, metric: Metric, ordered: Sequence[Sequence[Mapping[str, Array]]]
) -> str:
    """Return the content hash of what two encoders must share: clips and, if drawn, their truth."""
    if not isinstance(metric.statistic, Drawn):
        return test.key
    digest = hashlib.sha256(test.key.encode())
    for fold in ordered:
        for name in metric.statistic.truth:
            digest.update(np.ascontiguousarray(fold[0][name]).tobytes())
    return digest.hexdigest()


def _units(metric: str, test: TestClips, folds: Sequence[dict[str, Array]]) -> Units:
    size = np.zeros(test.n_units)
    for units, seed in zip(test.unit_of, folds, strict=True):
        size += np.bincount(units, unit_sizes(metric, seed), test.n_units)
    fewest = [n for seed in folds if (n := fewest_of_a_label(metric, seed)) is not None]
    squares = float((size**2).sum())
    return Units(
        n=test.n_units,
        n_clips=test.n_clips,
        effective=float(size.sum() ** 2 / squares) if squares else float(test.n_units),
        n_strata=len(test.strata),
        clustered=test.clustered,
        fewest=min(fewest, default=None),
    )


def read_test(group: Group) -> tuple[TestClips, list[list[dict[str, Array]]]]:
    """Read a group's predictions: the test clips and, per fold and seed, the clips' arrays.

    Raises StoreError where predictions are unreadable or the seeds' test clips differ.
    """
    return _same_clips(group, [read_predictions(run.path) for run in group.runs])


def _same_clips(
    group: Group, seeds: Sequence[dict[str, Array]]
) -> tuple[TestClips, list[list[dict[str, Array]]]]:
    """Return the test clips and, per fold and seed, the arrays in the order of the clips."""
    folds: list[FoldClips] = []
    ordered: list[list[dict[str, Array]]] = []
    for fold in sorted(result.fold for result in group.runs[0].record.folds):
        rows: list[dict[str, Array]] = []
        for run, arrays in zip(group.runs, seeds, strict=True):
            prefix = f"{fold}/"
            own = {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}
            if "clip" not in own:
                raise StoreError(
                    f"{run.path.with_suffix('.npz')}: fold {fold!r} has no clips; delete "
                    f"{run.path.name} and probe again"
                )
            order = np.argsort(own["clip"], kind="stable")
            sorted_ = metric_of(group.metric).rows(own, order)
            if rows and not np.array_equal(rows[0]["clip"], sorted_["clip"]):
                raise StoreError(
                    f"{run.path}: the test clips of fold {fold!r} are not those of "
                    f"{group.runs[0].path.name}; delete the older records and probe again"
                )
            rows.append(sorted_)
        clusters = rows[0].get("cluster", np.full(len(rows[0]["clip"]), ""))
        folds.append(FoldClips(fold, tuple(rows[0]["clip"].tolist()), tuple(clusters.tolist())))
        ordered.append(rows)
    return shared(TestClips(_named(group.task, folds))), ordered


def _named(task: str, folds: Sequence[FoldClips]) -> tuple[FoldClips, ...]:
    """Give the clips of HEAR's tasks the clusters that their file names tell, if none has one."""
    if any(any(fold.clusters) for fold in folds):
        return tuple(folds)
    found = [cluster_names(task, fold.clips) for fold in folds]
    return tuple(
        fold if None in found else replace(fold, clusters=names or fold.clusters)
        for fold, names in zip(folds, found, strict=True)
    )


def _resample(test: TestClips, scores: Sequence[FoldScore], recentre: bool) -> Array:
    """Return the mean over folds of the resampled scores, [n_resamples].

    Where units are drawn over several folds at once, a fold weighs as much as was drawn of it.
    `recentre` takes off the mean difference from the observed score: a clip drawn twice ranks
    beside itself, which inflates average precision in every resample.
    """
    total = np.zeros(N_RESAMPLES)
    weight = np.zeros(N_RESAMPLES)
    for (some, share, weights), score in zip(fold_draws(test), scores, strict=True):
        if len(test.strata) > 1:
            share = np.ones_like(share)
        value = np.zeros(N_RESAMPLES)
        value[some] = score.resampled(weights)
        total += np.where(some, share * np.where(np.isfinite(value), value, np.nan), 0.0)
        weight += np.where(some, share, 0.0)
    resampled = total / weight
    known = np.isfinite(resampled)
    if recentre and known.any():
        resampled += np.mean([score.score for score in scores]) - resampled[known].mean()
    return np.asarray(resampled)


def _unit_parts(test: TestClips, scores: Sequence[FoldScore]) -> Array | None:
    parts = np.zeros(test.n_units)
    for units, score in zip(test.unit_of, scores, strict=True):
        if score.parts is None:
            return None
        parts += np.bincount(units, score.parts, test.n_units) / len(scores)
    return parts


def _save(file: Path, evidence: Evidence) -> None:
    facts: dict[str, Any] = {
        name: getattr(evidence, name) for name in ("n_test", "reason", "test_key")
    }
    facts["units"] = None if evidence.units is None else dataclasses.asdict(evidence.units)
    arrays = {
        name: getattr(evidence, name)
        for name in ("resampled", "parts")
        if getattr(evidence, name) is not None
    }
    text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    atomic_write(file, lambda out: np.savez(out, facts=text, **arrays), durable=False)


def _load(file: Path, key: str) -> Evidence | None:
    """Read a cached evidence; None where the file is damaged: it is computed again."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        facts = json.loads(arrays.pop("facts").tobytes())
        facts["units"] = None if facts["units"] is None else Units(**facts["units"])
        return Evidence(key=key, **facts, **arrays)
    except UNREADABLE:
        return None
