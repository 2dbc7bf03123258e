"""Average precision and area under the ROC curve under clip weights.

A bootstrap over clips is the metric with integer weights: all resamples follow from one sort per
class. Ties in the scores share a threshold, as in scikit-learn.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "RankScores",
    "class_scores",
    "falling_order",
    "in_lanes",
    "mean_scores",
    "sorted_marks",
    "sweep_numpy",
    "weighted",
]

Array = npt.NDArray[Any]
_LANES = 256  # resamples handled side by side, at most
_POSITIVE, _FIRST, _LAST = 1, 2, 4  # marks of a position in the sorted order of a class


class RankScores(NamedTuple):
    """Per class and resample: average precision and AUC; NaN where undefined."""

    average_precision: Array  # [n_classes, n_resamples] float64
    auc: Array  # [n_classes, n_resamples] float64


def weighted(target: Array, score: Array, weights: Array) -> RankScores:
    """Score every class under every column of clip weights.

    target [n_clips, n_classes] bool, score [n_clips, n_classes] float, weights [n_clips,
    n_resamples] unsigned integers below 256. A class without positives (or, for the AUC, without
    negatives) in a resample is NaN there. Equals scikit-learn's average_precision_score and
    roc_auc_score on the clips repeated by their weights.
    """
    order, marks = sorted_marks(target, score)
    lanes = in_lanes(weights)
    found = [_kernel()(order, marks, lanes, precision, True)[0] for precision in (True, False)]
    shape = (len(order), -1)
    return RankScores(*(one.reshape(shape)[:, : weights.shape[1]] for one in found))


def in_lanes(weights: Array) -> Array:
    """Return weights uint8 [n_clips, n] in blocks of lanes, zeros after n: [n_blocks, n_clips,
    lanes].

    As few blocks as can be, and as few lanes for these: whole vectors of a processor.
    """
    n_clips, n = weights.shape
    blocks = max(1, -(-n // _LANES))
    lanes = 16 * max(1, -(-n // (16 * blocks)))
    padded = np.zeros((n_clips, blocks * lanes), np.uint8)
    padded[:, :n] = weights
    return np.ascontiguousarray(padded.reshape(n_clips, blocks, lanes).transpose(1, 0, 2))


def class_scores(order: Array, marks: Array, lanes: Array, *, precision: bool) -> Array:
    """Return average precision, or else the AUC, per class and resample: [n_classes, n] float64.

    order and marks as of `sorted_marks`, lanes as of `in_lanes`, n with its padding. NaN where
    undefined.
    """
    return _kernel()(order, marks, lanes, precision, True)[0].reshape(len(order), -1)


def mean_scores(order: Array, marks: Array, lanes: Array, *, precision: bool) -> Array:
    """Return the mean of `class_scores` over the classes in which they are defined: [n] float64."""
    total, n = _kernel()(order, marks, lanes, precision, False)
    total, n = total.ravel(), n.ravel()
    return np.asarray(np.where(n > 0, total / np.maximum(n, 1), np.nan))


def sorted_marks(target: Array, score: Array) -> tuple[Array, Array]:
    """Return clip indices in descending order of score and the marks of each position, per class.

    Only tie groups that hold a positive are marked: nothing has to be computed at the others.
    """
    order = falling_order(score.T)
    sorted_scores = np.take_along_axis(score.T, order, axis=1)
    positive = np.take_along_axis(target.T.astype(bool), order, axis=1)
    n_classes, n_clips = order.shape
    first = np.ones((n_classes, n_clips), bool)
    first[:, 1:] = sorted_scores[:, 1:] != sorted_scores[:, :-1]
    last = np.ones((n_classes, n_clips), bool)
    last[:, :-1] = first[:, 1:]
    number = np.cumsum(first, axis=1) + np.arange(n_classes)[:, None] * (n_clips + 1)
    holds = np.bincount(number[positive], minlength=int(number.max()) + 1)[number] > 0
    marks = positive * _POSITIVE + (first & holds) * _FIRST + (last & holds) * _LAST
    return order.astype(np.int32), marks.astype(np.uint8)


def falling_order(score: Array) -> Array:
    """Return the indices of falling scores along the second axis, equal ones as they stand: int64.

    float32 is sorted as whole numbers, its order-preserving bits above the index: a third of the
    time of an argsort.
    """
    if score.dtype != np.float32 or not np.isfinite(score).all():
        return np.argsort(-score, axis=1, kind="stable")
    bits = (score + np.float32(0)).view(np.int32)  # + 0: no negative zero
    rising = np.where(bits < 0, ~bits, bits ^ np.int32(-(2**31))).view(np.uint32)
    packed = (~rising).astype(np.uint64) << np.uint64(32)
    packed |= np.arange(score.shape[1], dtype=np.uint64)
    packed.sort(axis=1)
    return (packed & np.uint64(2**32 - 1)).astype(np.int64)


@cache
def _kernel() -> Callable[[Array, Array, Array, bool, bool], tuple[Array, Array]]:
    try:
        import numba
    except ImportError:
        warnings.warn(
            "numba cannot be imported: bootstraps of mAP and AUC run many times slower",
            RuntimeWarning,
            stacklevel=2,
        )
        return _without_numba
    compiled: Callable[[Array, Array, Array, bool, bool], tuple[Array, Array]]
    compiled = numba.njit(nogil=True, cache=True, error_model="numpy")(_sweep)
    return compiled


def _without_numba(
    order: Array, marks: Array, weights: Array, precision: bool, whole: bool
) -> tuple[Array, Array]:
    values = sweep_numpy(order, marks, weights)[0 if precision else 1]
    known = ~np.isnan(values)
    return (values if whole else np.where(known, values, 0.0).sum(axis=0)), known.sum(axis=0)


def _sweep(
    order: Array, marks: Array, weights: Array, precision: bool, whole: bool
) -> tuple[Array, Array]:
    """Go down every class's order once per block of resamples, as far as its last positive clip.

    order [n_classes, n_clips] int32, marks alike uint8, weights [n_blocks, n_clips, lanes] uint8.
    Returns the scores [n_classes, n_blocks, lanes] float64 if `whole`, else their sum over the
    classes where they are defined, [n_blocks, lanes]; and the number of these, alike. Weights are
    summed in bytes until these could run over.
    """
    n_classes, n_clips = order.shape
    n_blocks, _, lanes = weights.shape
    scores = np.zeros((n_classes if whole else 1, n_blocks, lanes))
    n_known = np.zeros((n_blocks, lanes), np.int64)
    largest = 1
    for block in range(n_blocks):
        for clip in range(n_clips):
            for lane in range(lanes):
                largest = max(largest, weights[block, clip, lane])
    most = 255 // largest
    last = np.zeros(n_classes, np.int64)
    for label in range(n_classes):
        for position in range(n_clips):
            if marks[label, position] & 4:
                last[label] = position + 1
    everything = np.zeros(lanes, np.int32)  # weight of all clips
    recent = np.zeros(lanes, np.uint8)  # weight since the last transfer to `total`
    total = np.zeros(lanes, np.int32)  # weight of all clips so far
    found = np.zeros(lanes, np.int32)  # of the positives up to the last marked group
    tied = np.zeros(lanes, np.int32)  # of the positives in this group
    start = np.zeros(lanes, np.int32)  # of the negatives above this group
    gained = np.zeros(lanes)
    for block in range(n_blocks):
        everything[:] = 0
        for clip in range(n_clips):
            for lane in range(lanes):
                everything[lane] += weights[block, clip, lane]
        for label in range(n_classes):
            if last[label] == 0:
                if whole:
                    scores[label, block, :] = np.nan
                continue
            for lane in range(lanes):
                total[lane] = found[lane] = tied[lane] = 0
                gained[lane] = 0.0
            n_recent = 0
            for position in range(last[label]):
                mark = marks[label, position]
                if mark & 2 or n_recent == most:
                    for lane in range(lanes):
                        total[lane] += recent[lane]
                        recent[lane] = 0
                        start[lane] = (
                            np.int32(total[lane] - found[lane]) if mark & 2 else start[lane]
                        )
                    n_recent = 0
                row = weights[block, order[label, position]]
                for lane in range(lanes):
                    recent[lane] += row[lane]
                n_recent += 1
                if mark & 1:
                    for lane in range(lanes):
                        tied[lane] += row[lane]
                if mark & 4:
                    n_recent = 0
                    if precision:
                        for lane in range(lanes):
                            total[lane] += recent[lane]
                            recent[lane] = 0
                            new = tied[lane]
                            found[lane] += new
                            share = float(found[lane]) / float(max(total[lane], np.int32(1)))
                            gained[lane] += float(new) * share
                            tied[lane] = 0
                    else:
                        for lane in range(lanes):
                            total[lane] += recent[lane]
                            recent[lane] = 0
                            new = tied[lane]
                            found[lane] += new
                            wrong = total[lane] - found[lane]
                            gained[lane] += new * (0.5 * (start[lane] + wrong))
                            tied[lane] = 0
            for lane in range(lanes):
                n_positive = float(found[lane])
                n_negative = float(everything[lane] - found[lane])
                pairs = n_positive * n_negative
                known = n_positive > 0 if precision else pairs > 0
                value = gained[lane] / n_positive if precision else 1.0 - gained[lane] / pairs
                n_known[block, lane] += known
                if whole:
                    scores[label, block, lane] = value if known else np.nan
                else:
                    scores[0, block, lane] += value if known else 0.0
    return scores, n_known


def sweep_numpy(order: Array, marks: Array, weights: Array) -> tuple[Array, Array]:
    """Return average precision and AUC, with cumulative sums, where numba cannot be imported."""
    n_blocks, _, lanes = weights.shape
    precision = np.full((len(order), n_blocks, lanes), np.nan)
    area = np.full((len(order), n_blocks, lanes), np.nan)
    for label, (clips, mark) in enumerate(zip(order, marks, strict=True)):
        sorted_weights = weights[:, clips].astype(np.float64)
        total = np.cumsum(sorted_weights, axis=1)
        found = np.cumsum(sorted_weights * ((mark & _POSITIVE) > 0)[:, None], axis=1)
        last, first = np.flatnonzero(mark & _LAST), np.flatnonzero(mark & _FIRST)
        if not len(last):
            continue
        wrong = total - found
        before = np.where((first > 0)[:, None], wrong[:, np.maximum(first - 1, 0)], 0.0)
        tied = np.diff(found[:, last], axis=1, prepend=0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(tied > 0, found[:, last] / total[:, last], 0.0)
            n_positive, n_negative = found[:, -1], wrong[:, -1]
            precision[label] = (tied * share).sum(axis=1) / n_positive
            passed = (tied * 0.5 * (before + wrong[:, last])).sum(axis=1)
            area[label] = 1.0 - passed / (n_positive * n_negative)
    return precision, area
