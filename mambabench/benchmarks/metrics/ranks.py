"""Average precision and area under the ROC curve of every label, from one sort per label."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.metrics.targets import multilabel

__all__ = ["average_precisions", "class_aucs", "mean_of_extended"]

Array = npt.NDArray[Any]


def average_precisions(target: Array, probability: Array) -> npt.NDArray[np.float64]:
    """Return each label's average precision, float64 [n_labels]; 0 without positives.

    Equal probabilities count as one threshold.
    """
    positive, last_of_tie = _sorted_by_probability(target, probability)
    gained = positive.astype(np.float64)  # where nothing ties
    hits = np.cumsum(gained, axis=1)
    total = np.maximum(hits[:, -1], 1.0)
    tied = ~last_of_tie.all(axis=1)
    if tied.any():
        at, before = _at_thresholds(hits[tied], last_of_tie[tied])
        gained[tied] = at - before
    hits /= np.arange(1, hits.shape[1] + 1)  # precision
    gained *= hits
    result: npt.NDArray[np.float64] = gained.sum(axis=1) / total
    return result


def class_aucs(target: Array, probability: Array) -> npt.NDArray[np.float64]:
    """Return each label's area under the ROC curve, float64 [n_labels]; NaN for one value only.

    Equal probabilities count half.
    """
    positive, last_of_tie = _sorted_by_probability(target, probability)
    hits = np.cumsum(positive.astype(np.float64), axis=1)
    areas = np.where(positive, 0.0, hits)  # where nothing ties
    n_hits = hits[:, -1]
    tied = ~last_of_tie.all(axis=1)
    if tied.any():
        misses = np.cumsum(~positive[tied], axis=1, dtype=np.float64)
        hits_at, hits_before = _at_thresholds(hits[tied], last_of_tie[tied])
        misses_at, misses_before = _at_thresholds(misses, last_of_tie[tied])
        areas[tied] = 0.5 * (hits_at + hits_before) * (misses_at - misses_before)
    area = areas.sum(axis=1)
    pairs = n_hits * (positive.shape[1] - n_hits)
    result: npt.NDArray[np.float64] = np.divide(
        area, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0
    )
    return result


def _at_thresholds(cumulated: Array, last_of_tie: Array) -> tuple[Array, Array]:
    """Return what is reached at every threshold and at the one before it, [n_labels, n] each."""
    reached = np.maximum.accumulate(np.where(last_of_tie, cumulated, 0.0), axis=1)
    before = np.concatenate([np.zeros((len(reached), 1)), reached[:, :-1]], axis=1)
    return reached, before


def _sorted_by_probability(
    target: Array, probability: Array
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return, per label [n_labels, n], the targets by falling probability and the ends of ties.

    float32 is sorted as packed integers (the order-preserving bits above the target's bit), which
    needs no index array; other types go through argsort.
    """
    labels = multilabel(target, probability.shape[1])
    if probability.dtype == np.float32:
        bits = (probability + np.float32(0)).view(np.int32)  # + 0: no negative zero
        if (bits >= 0).all():  # as probabilities are: 31 bits and the target's
            packed: Array = np.subtract(np.int32(2**31 - 1), bits, out=bits).view(np.uint32)
        else:
            ordered = np.where(bits < 0, ~bits, bits ^ np.int32(-(2**31))).view(np.uint32)
            packed = (~ordered).astype(np.uint64)
        packed <<= packed.dtype.type(1)
        packed |= labels
        packed = np.ascontiguousarray(packed.T)
        packed.sort(axis=1)
        positive = (packed & packed.dtype.type(1)).astype(np.bool_)
        next_differs = (packed[:, 1:] ^ packed[:, :-1]) > 1  # in more than the target
    else:
        scores = np.ascontiguousarray(probability.T)
        order = np.argsort(-scores, axis=1, kind="stable")
        positive = np.take_along_axis(np.ascontiguousarray(labels.T), order, axis=1)
        keys = np.take_along_axis(scores, order, axis=1)
        next_differs = keys[:, 1:] != keys[:, :-1]
    last_of_tie = np.ones(positive.shape, dtype=np.bool_)
    last_of_tie[:, :-1] = next_differs
    return positive, last_of_tie


def mean_of_extended(values: npt.NDArray[np.float64]) -> float:
    """Return the mean of values that may be infinite, without a warning for inf - inf."""
    if np.isnan(values).any() or (np.isposinf(values).any() and np.isneginf(values).any()):
        return float("nan")
    return float(np.mean(values))
