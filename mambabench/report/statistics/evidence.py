"""What the per-clip predictions of one encoder on one task say about its score.

The expensive part (resampled scores) is cached below ``<out>/report/cache``, named by the content
of the run records, which carry the hashes of their predictions. Deleting the cache is harmless.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.errors import StoreError
from mambabench.files import atomic_write, canonical_json
from mambabench.reading.arrays import UNREADABLE
from mambabench.report.cache import keep
from mambabench.report.results import Group
from mambabench.report.statistics.resampling import N_RESAMPLES, Fold, TestClips, draw
from mambabench.report.statistics.scoring import RANKED, FoldScore, fold_score
from mambabench.store.records import read_predictions

__all__ = ["Evidence", "gather"]

Array = npt.NDArray[Any]
_VERSION = 2  # of the numbers in the cache: raise it when the statistics change
_MOST_COUNTS = 4_000_000  # count tables larger than this are compared by their linearised parts


@dataclass(frozen=True)
class Evidence:
    """Resampled scores of one group; `reason` says why there are none."""

    key: str  # content hash of the runs
    n_test: int  # distinct test clips over the folds
    reason: str | None = None
    test_key: str = ""  # content hash of the test clips: equal for encoders on the same clips
    n_units: int = 0  # independent units: clusters or clips
    clustered: bool = False
    resampled: Array | None = None  # [n_resamples] float64, the seed-mean score
    parts: Array | None = None  # [n_units] float64, each unit's part of the seed-mean score
    counts: Array | None = None  # [n_seeds, n_folds, n_units, k] float64, event metrics


def gather(group: Group, cache: Path | None) -> Evidence:
    """Return the evidence of one group, from the cache where it has it.

    Raises StoreError where predictions are unreadable or the seeds' test clips differ.
    """
    content = [_VERSION, N_RESAMPLES, [run.digest for run in group.runs]]
    key = hashlib.sha256(canonical_json(content)).hexdigest()
    file = cache / f"{key}.npz" if cache else None
    if file and file.is_file() and (stored := _load(file, key)):
        return stored
    evidence = _compute(group, key)
    if file:
        keep(lambda: _save(file, evidence))
    return evidence


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
    seeds = [read_predictions(run.path) for run in group.runs]
    test, ordered = _same_clips(group, seeds)
    try:
        scores = [fold_score(group.metric, fold) for fold in ordered]
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
        test_key=test.key,
        n_units=test.n_units,
        clustered=test.clustered,
        resampled=_resample(test, scores, recentre=group.metric in RANKED),
        parts=_unit_parts(test, scores),
        counts=_unit_counts(test, scores),
    )


def _same_clips(
    group: Group, seeds: Sequence[dict[str, Array]]
) -> tuple[TestClips, list[list[dict[str, Array]]]]:
    """Return the test clips and, per fold and seed, the arrays in the order of the clips."""
    folds: list[Fold] = []
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
            n_clips = len(order)
            per_clip = {k: v for k, v in own.items() if k[:6] != "event_" and len(v) == n_clips}
            sorted_ = {k: v[order] for k, v in per_clip.items()}
            if rows and not np.array_equal(rows[0]["clip"], sorted_["clip"]):
                raise StoreError(
                    f"{run.path}: the test clips of fold {fold!r} are not those of "
                    f"{group.runs[0].path.name}; delete the older records and probe again"
                )
            rows.append(sorted_)
        clusters = rows[0].get("cluster", np.full(len(rows[0]["clip"]), ""))
        folds.append(Fold(fold, tuple(rows[0]["clip"].tolist()), tuple(clusters.tolist())))
        ordered.append(rows)
    return TestClips(tuple(folds)), ordered


def _resample(test: TestClips, scores: Sequence[FoldScore], recentre: bool) -> Array:
    """Return the mean over folds of the resampled scores, [n_resamples].

    Where units are drawn over several folds at once, a fold weighs as much as was drawn of it.
    `recentre` takes off the mean difference from the observed score: a clip drawn twice ranks
    beside itself, which inflates average precision in every resample.
    """
    drawn = draw(test)
    total = np.zeros(drawn.shape[1])
    weight = np.zeros(drawn.shape[1])
    for units, score in zip(test.unit_of, scores, strict=True):
        weights = drawn[units]
        share = weights.sum(axis=0, dtype=np.float64) / len(units)
        if len(test.strata) > 1:
            share = np.ones_like(share)
        some = weights.any(axis=0)
        value = np.zeros(drawn.shape[1])
        with np.errstate(invalid="ignore", divide="ignore"):
            value[some] = score.resampled(weights[:, some])
        total += np.where(some, share * value, 0.0)
        weight += np.where(some, share, 0.0)
    resampled = total / weight
    if recentre:
        resampled += np.mean([score.score for score in scores]) - resampled.mean()
    return np.asarray(resampled)


def _unit_parts(test: TestClips, scores: Sequence[FoldScore]) -> Array | None:
    parts = np.zeros(test.n_units)
    for units, score in zip(test.unit_of, scores, strict=True):
        if score.parts is None or not np.isfinite(score.parts).all():
            return None
        parts += np.bincount(units, score.parts, test.n_units) / len(scores)
    return parts


def _unit_counts(test: TestClips, scores: Sequence[FoldScore]) -> Array | None:
    """Counts per seed, fold and unit, where they are few enough to be swapped exactly."""
    if any(score.counts is None for score in scores):
        return None
    first = scores[0].counts
    assert first is not None
    n_seeds, _, k = first.shape
    if n_seeds * len(scores) * test.n_units * k > _MOST_COUNTS or k > 8:
        return None
    table = np.zeros((n_seeds, len(scores), test.n_units, k))
    for fold, (units, score) in enumerate(zip(test.unit_of, scores, strict=True)):
        table[:, fold] = _per_unit(units, score.counts, test.n_units)
    return table


def _per_unit(units: Array, counts: Array | None, n_units: int) -> Array:
    """Sum counts [n_seeds, n_clips, k] over the clips of each unit: [n_seeds, n_units, k]."""
    assert counts is not None
    table = np.zeros((n_units, counts.shape[0], counts.shape[2]))
    np.add.at(table, units, counts.transpose(1, 0, 2))
    return np.asarray(table.transpose(1, 0, 2))


def _save(file: Path, evidence: Evidence) -> None:
    facts = {
        name: getattr(evidence, name)
        for name in ("n_test", "reason", "test_key", "n_units", "clustered")
    }
    arrays = {
        name: getattr(evidence, name)
        for name in ("resampled", "parts", "counts")
        if getattr(evidence, name) is not None
    }
    text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    atomic_write(file, lambda out: np.savez(out, facts=text, **arrays))


def _load(file: Path, key: str) -> Evidence | None:
    """Read a cached evidence; None where the file is damaged: it is computed again."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        facts = json.loads(arrays.pop("facts").tobytes())
        return Evidence(key=key, **facts, **arrays)
    except UNREADABLE:
        return None
