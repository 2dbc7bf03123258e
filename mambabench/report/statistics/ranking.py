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

__all__ = ["RankScores", "sorted_marks", "sweep_numpy", "weighted"]

Array = npt.NDArray[Any]
_LANES = 64  # resamples handled side by side: one row of weights is one vector load
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
    n_clips, n_resamples = weights.shape
    order, marks = sorted_marks(target, score)
    blocks = -(-n_resamples // _LANES)
    padded = np.zeros((n_clips, blocks * _LANES), np.uint8)
    padded[:, :n_resamples] = weights
    lanes = np.ascontiguousarray(padded.reshape(n_clips, blocks, _LANES).transpose(1, 0, 2))
    precision, auc = _kernel()(order, marks, lanes)
    return RankScores(
        precision.reshape(len(order), -1)[:, :n_resamples],
        auc.reshape(len(order), -1)[:, :n_resamples],
    )


def sorted_marks(target: Array, score: Array) -> tuple[Array, Array]:
    """Return clip indices in descending order of score and the marks of each position, per class.

    Only tie groups that hold a positive are marked: nothing has to be computed at the others.
    """
    order = np.argsort(-score.T, axis=1, kind="stable").astype(np.int32)
    sorted_scores = np.take_along_axis(score.T, order.astype(np.int64), axis=1)
    positive = np.take_along_axis(target.T.astype(bool), order.astype(np.int64), axis=1)
    n_classes, n_clips = order.shape
    first = np.ones((n_classes, n_clips), bool)
    first[:, 1:] = sorted_scores[:, 1:] != sorted_scores[:, :-1]
    last = np.ones((n_classes, n_clips), bool)
    last[:, :-1] = first[:, 1:]
    number = np.cumsum(first, axis=1) + np.arange(n_classes)[:, None] * (n_clips + 1)
    holds = np.bincount(number[positive], minlength=int(number.max()) + 1)[number] > 0
    marks = positive * _POSITIVE + (first & holds) * _FIRST + (last & holds) * _LAST
    return order, marks.astype(np.uint8)


@cache
def _kernel() -> Callable[[Array, Array, Array], tuple[Array, Array]]:
    try:
        import numba
    except ImportError:
        warnings.warn(
            "numba cannot be imported: bootstraps of mAP and AUC run many times slower",
            RuntimeWarning,
            stacklevel=2,
        )
        return sweep_numpy
    compiled: Callable[[Array, Array, Array], tuple[Array, Array]]
    compiled = numba.njit(nogil=True, cache=True)(_sweep)
    return compiled


def _sweep(order: Array, marks: Array, weights: Array) -> tuple[Array, Array]:
    """Go down every class's order once per block of resamples.

    order [n_classes, n_clips] int32, marks alike uint8, weights [n_blocks, n_clips, lanes] uint8;
    returns average precision and AUC [n_classes, n_blocks, lanes] float64.
    """
    n_classes, n_clips = order.shape
    n_blocks, _, lanes = weights.shape
    precision = np.empty((n_classes, n_blocks, lanes))
    area = np.empty((n_classes, n_blocks, lanes))
    for block in range(n_blocks):
        for label in range(n_classes):
            total = np.zeros(lanes, np.int32)  # weight of all clips so far
            found = np.zeros(lanes, np.int32)  # of the positives up to the last marked group
            tied = np.zeros(lanes, np.int32)  # of the positives in this group
            start = np.zeros(lanes, np.int32)  # of the negatives above this group
            gained = np.zeros(lanes)
            passed = np.zeros(lanes)
            for position in range(n_clips):
                mark = marks[label, position]
                if mark & 2:
                    start[:] = total - found
                row = weights[block, order[label, position]]
                for lane in range(lanes):
                    total[lane] += row[lane]
                if mark & 1:
                    for lane in range(lanes):
                        tied[lane] += row[lane]
                if mark & 4:
                    for lane in range(lanes):
                        found[lane] += tied[lane]
                        wrong = total[lane] - found[lane]
                        if tied[lane] > 0:
                            gained[lane] += tied[lane] * (found[lane] / total[lane])
                            passed[lane] += tied[lane] * (0.5 * (start[lane] + wrong))
                        tied[lane] = 0
            for lane in range(lanes):
                n_positive = float(found[lane])
                n_negative = float(total[lane] - found[lane])
                precision[label, block, lane] = gained[lane] / n_positive if n_positive else np.nan
                pairs = n_positive * n_negative
                area[label, block, lane] = 1.0 - passed[lane] / pairs if pairs else np.nan
    return precision, area


def sweep_numpy(order: Array, marks: Array, weights: Array) -> tuple[Array, Array]:
    """Do what `_sweep` does with cumulative sums, where numba cannot be imported."""
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
