"""Let clips change sides between two encoders on one fold, and score both sides again.

Each side is a whole set of predictions: of every clip one encoder's, and the other's on the other
side. For metrics of ranks, log odds are standardised per encoder and label first, so that heads of
different confidence can be mixed; an encoder's own ranks, and so its score, stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.metrics import METRICS, Metric
from mambabench.benchmarks.metrics.metric import Ranked
from mambabench.benchmarks.metrics.targets import multilabel
from mambabench.report.statistics.ranking import falling_order, in_lanes
from mambabench.report.statistics.scoring import ScoreOfCounts, Seed, counts_of, gradient, macro
from mambabench.report.statistics.segment_kernels import (
    Segments,
    has_numba,
    positive_places,
    precision_slopes,
    segments,
    sweep_segments,
)
from mambabench.report.statistics.swap_kernels import merge, sweep_both_sides

__all__ = ["Exchange", "exchange", "prepared"]

Array = npt.NDArray[Any]
_SLOPE_SEEDS = 2  # the slopes only steer the draws: two seeds say enough
_WORK_OF_A_CALL = 50_000  # what one call of a scene metric costs, in the units of `work`


@dataclass(frozen=True)
class Exchange:
    """Two encoders on one fold."""

    sides: Callable[[Array], tuple[Array, Array]]
    """kept uint8 [n_clips, n] (1: the clip stays, 0: it changes sides) -> both scores [n]."""
    slopes: Callable[[], Array]
    """[n_clips] float64: to first order, what each clip adds to the difference, up to a factor."""
    work: float  # elementary steps of one permutation
    moves: Callable[[], Array]
    """bool [n_clips]: where the encoders differ in what the metric sees, in any seed."""


def exchange(metric: str, one: Sequence[Seed], other: Sequence[Seed]) -> Exchange:
    """Prepare the exchange of clips between two encoders' predictions of one fold.

    `one` and `other` hold the same clips in the same order, seed by seed: a clip changes sides in
    all seeds at once. Scores are averaged over the seeds. KeyError where the metric is unknown.
    """
    known = METRICS[metric]
    if isinstance(known.statistic, Ranked):
        return _ranked(known, known.statistic, one, other)
    if (own := counts_of(known, one)) is not None:
        theirs = counts_of(known, other)
        assert theirs is not None
        return _counted(own[0], theirs[0], own[1])
    return _generic(known, one, other)


def _counted(one: Array, other: Array, score: ScoreOfCounts) -> Exchange:
    """Exchange counts [n_seeds, n_clips, k]; only columns in which the encoders differ move."""
    n_seeds, n_clips, k = one.shape
    whole = one.sum(axis=1) + other.sum(axis=1)  # [n_seeds, k] of both sides together
    base = other.sum(axis=1)
    moved = (one - other).transpose(0, 2, 1).reshape(n_seeds * k, n_clips)
    moving = np.flatnonzero(moved.any(axis=1))

    def sides(kept: Array) -> tuple[Array, Array]:
        first = np.repeat(base.reshape(-1, 1), kept.shape[1], axis=1)
        first[moving] += moved[moving] @ kept.astype(np.float64)
        own = first.reshape(n_seeds, k, -1).transpose(0, 2, 1)  # [n_seeds, n, k]
        return score(own).mean(axis=0), score(whole[:, None] - own).mean(axis=0)

    def slopes() -> Array:
        total = np.zeros(n_clips)
        for seed in range(n_seeds):
            total += (one[seed] - other[seed]) @ gradient(score, whole[seed] / 2) / n_seeds
        return total

    def moves() -> Array:
        return np.asarray((one != other).any(axis=(0, 2)))

    return Exchange(sides, slopes, 2.0 * n_seeds * k * n_clips / 8, moves)


def _ranked(
    metric: Metric, statistic: Ranked, one: Sequence[Seed], other: Sequence[Seed]
) -> Exchange:
    pairs = [
        (prepared(metric.name, a), prepared(metric.name, b))
        for a, b in zip(one, other, strict=True)
    ]
    found = [segments(*pair) for pair in pairs] if has_numba() else []
    present = float(np.mean(pairs[0][0]["positive"].any(axis=1)))

    def sides(kept: Array) -> tuple[Array, Array]:
        lanes = in_lanes(kept)
        scores = np.zeros((2, len(lanes) * lanes.shape[2]))
        if found:
            for cut in found:
                scores += _swept(statistic, cut, present, lanes)
        else:
            for pair in pairs:
                scores += _plain(statistic, *pair, present, lanes)
        first, second = scores[:, : kept.shape[1]] / len(pairs)
        return first, second

    def slopes() -> Array:
        if found and statistic.of == "precision":
            own = [precision_slopes(cut) for cut in found[:_SLOPE_SEEDS]]
        else:
            own = [_PooledClips.of(*pair).slopes(statistic) for pair in pairs[:_SLOPE_SEEDS]]
        return np.asarray(np.mean(own, axis=0))

    def moves() -> Array:
        differ = [(a["score"] != b["score"]).any(axis=0) for a, b in pairs]
        return np.asarray(np.any(differ, axis=0))

    n_labels, n_clips = pairs[0][0]["order"].shape
    return Exchange(sides, slopes, float(len(pairs) * n_labels * 2 * n_clips), moves)


def _swept(statistic: Ranked, found: Segments, present: float, lanes: Array) -> Array:
    """Score both sides of one seed: lanes of kept clips -> [2, n] float64."""
    precision = statistic.of == "precision"
    if statistic.value is None:
        mean = sweep_segments(found, lanes, precision, mean=True)
        return mean * present if statistic.absent_is_zero else mean
    own = sweep_segments(found, lanes, precision)
    return np.stack([macro(statistic, side, side, present) for side in own])


def _plain(statistic: Ranked, one: Seed, other: Seed, present: float, lanes: Array) -> Array:
    """Do what `_swept` does where numba cannot be imported."""
    pool = _PooledClips.of(one, other)
    own = sweep_both_sides(pool.order, pool.marks, lanes)[0 if statistic.of == "precision" else 1]
    flat = own.reshape(2, len(pool.order), -1)
    return np.stack([macro(statistic, side, side, present) for side in flat])


def prepared(metric: str, seed: Seed) -> Seed:
    """Return what `exchange` takes from a seed of a fold, worked out once for all pairs.

    Metrics of ranks: ``positive`` bool, ``score`` as stored, ``order`` int32 (clips by falling key)
    and ``falling`` float64 (the keys in that order: standardised log odds, in the order of the
    probabilities), each [n_labels, n_clips]; ``hits`` int32 [n_labels, most]: where in the order
    the positive clips are.
    """
    if not isinstance(METRICS[metric].statistic, Ranked) or "falling" in seed:
        return seed
    positive = np.ascontiguousarray(multilabel(seed["target"], seed["probability"].shape[1]).T)
    score = np.ascontiguousarray(seed["probability"].T)
    key = _standardised(np.asarray(score, np.float64))
    order = falling_order(score)  # keys never rise where scores fall; ties may stand anyhow
    return {
        "positive": positive,
        "score": score,
        "order": order.astype(np.int32),
        "falling": np.take_along_axis(key, order, axis=1),
        "hits": positive_places(positive, order),
    }


def _standardised(score: Array) -> Array:
    """Return log odds of probabilities (others as they are), mean 0 and deviation 1 per label.

    score [n_labels, n_clips]. Mean and deviation do not see odds beyond e^10, values keep them.
    """
    if score.min() >= 0 and score.max() <= 1:
        with np.errstate(divide="ignore"):
            odds = np.log(score) - np.log1p(-score)
        score = np.clip(odds, -800.0, 800.0)  # 0 and 1 lie beyond every other double
    inner = np.clip(score, -10.0, 10.0) if np.abs(score).max() > 10 else score
    deviation = inner.std(axis=1, keepdims=True)
    middle = inner.mean(axis=1, keepdims=True)
    return np.asarray((score - middle) / np.where(deviation > 0, deviation, 1.0))


@dataclass(frozen=True)
class _PooledClips:
    """The predictions of both encoders for one fold and seed, sorted together label by label."""

    positive: Array  # [n_labels, n_clips] bool
    order: Array  # [n_labels, 2 n] int32: the clip, + n_clips where the entry is the other's
    marks: Array  # [n_labels, 2 n] uint8, as in `ranking`
    places: Array  # [n_labels, 2 n] int32: of each entry, clip or + n_clips, its rank in the pool

    @classmethod
    def of(cls, one: Seed, other: Seed) -> _PooledClips:
        positive = one["positive"]
        own = merge(one["order"], one["falling"], other["order"], other["falling"], positive)
        return cls(positive, *own)

    def slopes(self, metric: Ranked) -> Array:
        """Return what a clip adds to the difference of the sides, to first order: [n_clips].

        It follows from the two predictions of a clip and from all predictions together, not from
        whose they are (but for the sign).
        """
        n_labels, n_clips = self.positive.shape
        width = 2 * n_clips
        places = self.places + np.arange(n_labels)[:, None] * width
        keys = places[:, :n_clips], places[:, n_clips:]
        size = n_labels * width
        tied = np.bincount(places.ravel(), minlength=size).reshape(n_labels, width)
        hits = np.concatenate([key[self.positive] for key in keys])
        found = np.bincount(hits, minlength=size).reshape(n_labels, width)
        table = _slope_tables(metric, tied, found)
        own = [np.where(self.positive, *(t.ravel()[key] for t in table)) for key in keys]
        return np.asarray((own[0] - own[1]).mean(axis=0))


def _slope_tables(metric: Ranked, tied: Array, found: Array) -> tuple[Array, Array]:
    """Derivatives of a label's score by the weight of an entry of each rank: positive, negative.

    tied, found [n_labels, n_ranks]: entries and positive entries of each rank, the best first.
    """
    above, hits = np.cumsum(tied, axis=1), np.cumsum(found, axis=1)
    n_positive = np.maximum(hits[:, -1:], 1)
    if metric.of == "precision":
        precision = hits / np.maximum(above, 1)
        average = (found * precision).sum(axis=1, keepdims=True) / n_positive
        per_rank = found / np.maximum(above, 1)
        gain = np.cumsum(per_rank[:, ::-1], axis=1)[:, ::-1]
        loss = np.cumsum((per_rank * precision)[:, ::-1], axis=1)[:, ::-1]
        return (precision - average + gain - loss) / n_positive, -loss / n_positive
    n_negative = np.maximum(above[:, -1:] - hits[:, -1:], 1)
    misses = tied - found
    below = n_negative - np.cumsum(misses, axis=1) + 0.5 * misses
    higher = hits - 0.5 * found
    area = (found * below).sum(axis=1, keepdims=True) / (n_positive * n_negative)
    scale = np.ones_like(area)
    if metric.slope is not None:  # kept finite near 1, as slopes only steer the draws
        inside = np.clip(area, 0.5 / (n_positive * n_negative), 1 - 0.5 / (n_positive * n_negative))
        scale = metric.slope(inside)
    positive = scale * (below / n_negative - area) / n_positive
    return positive, scale * (higher / n_positive - area) / n_negative


def _generic(metric: Metric, one: Sequence[Seed], other: Sequence[Seed]) -> Exchange:
    """Exchange rows of any scene metric, one call per seed, side and permutation."""

    def sides(kept: Array) -> tuple[Array, Array]:
        scores = np.zeros((2, kept.shape[1]))
        for number, stays in enumerate(kept.T.astype(bool)):
            for a, b in zip(one, other, strict=True):
                for side, (yes, no) in enumerate(((a, b), (b, a))):
                    chosen = np.where(stays[:, None], yes["probability"], no["probability"])
                    scores[side, number] += metric(a["target"], chosen) / len(one)
        return scores[0], scores[1]

    def moves() -> Array:
        pairs = zip(one, other, strict=True)
        differ = [(a["probability"] != b["probability"]).any(axis=1) for a, b in pairs]
        return np.asarray(np.any(differ, axis=0))

    n_clips = len(one[0]["target"])
    return Exchange(sides, lambda: np.zeros(n_clips), 2.0 * len(one) * _WORK_OF_A_CALL, moves)
