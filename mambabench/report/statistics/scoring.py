"""A metric on one fold under clip weights and, where it is one, as a sum over clips.

Every metric is averaged over the seeds. What is no sum over clips as it stands is not linearised:
two encoders are compared by exchanging whole clips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.metrics import METRICS, Metric
from mambabench.benchmarks.metrics.metric import Counts, Drawn, Opaque, PerClip, Ranked, Untested
from mambabench.benchmarks.metrics.targets import label_index, multilabel
from mambabench.errors import MambabenchError
from mambabench.report.statistics.ranking import (
    class_scores,
    in_lanes,
    mean_scores,
    sorted_marks,
)

__all__ = [
    "FoldScore",
    "ScoreOfCounts",
    "Seed",
    "counts_of",
    "fewest_of_a_label",
    "fold_score",
    "gradient",
    "macro",
    "unit_sizes",
]

Array = npt.NDArray[Any]
Seed = Mapping[str, Array]  # one seed's arrays of one fold, clips in the order of the fold
ScoreOfCounts = Callable[[Array], Array]  # [..., k] -> [...]


@dataclass(frozen=True)
class FoldScore:
    """One fold's seed-mean score."""

    parts: Array | None  # [n_clips] float64, sums to the score exactly; None: it is no such sum
    resampled: Callable[[Array], Array]  # weights uint8 [n_clips, n] -> scores float64 [n]
    score: float  # at weights of one


def fold_score(metric: str, seeds: Sequence[Seed], units: Array | None = None) -> FoldScore:
    """Prepare `metric` on one fold from the predictions of all seeds, as its statistic says.

    units [n_clips] int: of each clip the cluster, or whatever is drawn as a whole; None: clips are.
    KeyError where an array or the metric is unknown.
    """
    known = METRICS[metric]
    match known.statistic:
        case PerClip():
            return _linear(np.mean([_clip_values(known, seed) for seed in seeds], axis=0))
        case Counts() as statistic:
            counts = np.stack([_counts(known, seed) for seed in seeds])
            own = _of_counts(counts, statistic.score)
            exact = statistic.exact(counts) if statistic.exact else None
            return FoldScore(exact, own.resampled, own.score)
        case Ranked() as statistic:
            return _ranked(statistic, seeds)
        case Drawn() as statistic:
            return _drawn(known, statistic, seeds, units)
        case Opaque():
            return _generic(known, seeds)
        case Untested(reason):
            raise MambabenchError(reason)


def counts_of(metric: Metric, seeds: Sequence[Seed]) -> tuple[Array, ScoreOfCounts] | None:
    """Return counts float64 [n_seeds, n_clips, k] and the metric as a function of their sums.

    None where the metric is no function of such sums.
    """
    if isinstance(metric.statistic, PerClip):
        values = np.stack([_clip_values(metric, seed) for seed in seeds])
        return np.stack([values, np.ones_like(values)], axis=-1), metric.score
    if isinstance(metric.statistic, Counts):
        return np.stack([_counts(metric, seed) for seed in seeds]), metric.score
    return None


def _counts(metric: Metric, seed: Seed) -> Array:
    assert isinstance(metric.statistic, Counts)
    if metric.statistic.of_clips is not None:
        return metric.statistic.of_clips(seed["target"], seed["probability"])
    return np.asarray(seed[f"counts:{metric.name}"], np.float64)


def _clip_values(metric: Metric, seed: Seed) -> Array:
    assert isinstance(metric.statistic, PerClip)
    if metric.statistic.values is not None:
        return metric.statistic.values(seed["target"], seed["probability"])
    counts = np.asarray(seed[f"counts:{metric.name}"], np.float64)
    return np.asarray(counts[:, 0] / counts[:, 1])


def unit_sizes(metric: str, seed: Seed) -> Array:
    """Return how much each clip holds of what is scored, float64 [n_clips]: events, or itself."""
    counts = seed.get(f"counts:{metric}")
    if counts is None:
        return np.ones(len(seed["clip"]))
    return np.asarray(np.asarray(counts, np.float64).sum(axis=1))


def fewest_of_a_label(metric: str, seed: Seed) -> int | None:
    """Return how many clips the rarest label has (or has not), where a metric averages over labels.

    None for other metrics; labels without any clip do not count.
    """
    statistic = METRICS[metric].statistic
    if isinstance(statistic, Ranked):
        positive = multilabel(seed["target"], seed["probability"].shape[1]).sum(axis=0)
        both = np.minimum(positive, len(seed["target"]) - positive)
        counts = positive if statistic.of == "precision" else both
    elif isinstance(statistic, Counts) and statistic.per_label:
        counts = np.bincount(label_index(seed["target"]))
    else:
        return None
    return int(counts[counts > 0].min(initial=len(seed["target"])))


def _linear(correct: Array) -> FoldScore:
    rows = np.stack([correct, np.ones_like(correct)])

    def resampled(weights: Array) -> Array:
        total, n_drawn = _product(rows, weights)
        return np.asarray(total / n_drawn)

    return FoldScore(correct / len(correct), resampled, float(correct.mean()))


def _product(values: Array, weights: Array) -> Array:
    """values [m, n_clips] float64 times weights [n_clips, n] uint8, in bounded memory."""
    step = max(1, 8_000_000 // len(weights))
    parts = [
        values @ weights[:, start : start + step].astype(np.float64)
        for start in range(0, weights.shape[1], step)
    ]
    return np.concatenate(parts, axis=1)


def _of_counts(counts: Array, score: ScoreOfCounts) -> FoldScore:
    """counts [n_seeds, n_clips, k]."""
    n_seeds, n_clips, k = counts.shape
    flat = counts.transpose(0, 2, 1).reshape(n_seeds * k, n_clips)

    def resampled(weights: Array) -> Array:
        sums = _product(flat, weights).reshape(n_seeds, k, -1)
        return np.asarray(score(sums.transpose(0, 2, 1)).mean(axis=0))

    return FoldScore(None, resampled, float(score(counts.sum(axis=1)).mean()))


def gradient(score: ScoreOfCounts, totals: Array) -> Array:
    """Central differences of a score of counts, [k]; 0 where it is undefined."""
    step = 1e-4 * np.maximum(np.abs(totals), 1.0)
    shifts = np.diag(step)
    slope = (score(totals + shifts) - score(totals - shifts)) / (2 * step)
    return np.asarray(np.where(np.isfinite(slope), slope, 0.0))


def _ranked(metric: Ranked, seeds: Sequence[Seed]) -> FoldScore:
    targets = [multilabel(seed["target"], seed["probability"].shape[1]) for seed in seeds]
    sorted_ = [
        sorted_marks(target, seed["probability"])
        for target, seed in zip(targets, seeds, strict=True)
    ]
    present = float(np.mean(targets[0].any(axis=0)))
    precision = metric.of == "precision"

    def resampled(weights: Array) -> Array:
        lanes = in_lanes(weights)
        n = weights.shape[1]

        def one(own: tuple[Array, Array]) -> Array:
            if metric.value is None and n > 1:  # NumPy adds up one column in another order
                mean = mean_scores(*own, lanes, precision=precision)[:n]
                score = mean * present if metric.absent_is_zero else mean
            else:
                values = class_scores(*own, lanes, precision=precision)[:, :n]
                score = macro(metric, values, values, present)
            return np.where(np.isfinite(score), score, np.nan)  # an infinite d' is undefined

        with ThreadPoolExecutor() as pool:  # the kernel lets go of the interpreter's lock
            return np.asarray(np.mean(list(pool.map(one, sorted_)), axis=0))

    whole = np.ones((len(targets[0]), 1), np.uint8)
    return FoldScore(None, resampled, float(resampled(whole)[0]))


def macro(metric: Ranked, precision: Array, auc: Array, present: float) -> Array:
    """Mean over labels [n] of a metric of ranks, from values [n_labels, n]; NaN where undefined.

    `present` is the share of the labels that have a positive clip: what others count where a label
    without one counts as 0. A label that merely drew no positive (or no negative) in a resample is
    left out of it: it says nothing there.
    """
    values = precision if metric.of == "precision" else auc
    mean = _mean_of_known(values if metric.value is None else metric.value(values))
    return mean * present if metric.absent_is_zero else mean


def _mean_of_known(values: Array) -> Array:
    """Mean down the columns of what is not NaN; NaN where nothing is, or infinities cancel."""
    known = ~np.isnan(values)
    n = known.sum(axis=0)
    with np.errstate(invalid="ignore"):  # inf - inf
        total = np.where(known, values, 0.0).sum(axis=0)
    return np.asarray(np.where(n > 0, total / np.maximum(n, 1), np.nan))


def _drawn(
    metric: Metric, statistic: Drawn, seeds: Sequence[Seed], units: Array | None
) -> FoldScore:
    n_clips = len(seeds[0]["clip"])
    own = np.arange(n_clips) if units is None else units

    def resampled(weights: Array) -> Array:
        def one(seed: Seed) -> Array:
            return statistic.weighted(seed, weights, own)

        with ThreadPoolExecutor() as pool:
            return np.asarray(np.mean(list(pool.map(one, seeds)), axis=0))

    return FoldScore(None, resampled, float(np.mean([metric.stored(seed)[1] for seed in seeds])))


def _generic(metric: Metric, seeds: Sequence[Seed]) -> FoldScore:
    """Score clips repeated by their weights, for metrics of which nothing else is known."""

    def at(clips: Array) -> float:
        values = [metric(seed["target"][clips], seed["probability"][clips]) for seed in seeds]
        return float(np.mean(values))

    def resampled(weights: Array) -> Array:
        clips = np.arange(len(weights))
        return np.array([at(np.repeat(clips, column)) for column in weights.T])

    return FoldScore(None, resampled, at(np.arange(len(seeds[0]["target"]))))
