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
    hits = np.cumsum(positive, axis=1, dtype=np.float64)
    n = positive.shape[1]
    precision = hits / np.arange(1, n + 1)
    at_threshold = np.where(last_of_tie, hits, 0.0)
    before = np.maximum.accumulate(at_threshold, axis=1)
    before = np.concatenate([np.zeros((len(hits), 1)), before[:, :-1]], axis=1)
    gained = np.where(last_of_tie, hits - before, 0.0)
    total = np.maximum(hits[:, -1], 1.0)
    result: npt.NDArray[np.float64] = (gained * precision).sum(axis=1) / total
    return result


def class_aucs(target: Array, probability: Array) -> npt.NDArray[np.float64]:
    """Return each label's area under the ROC curve, float64 [n_labels]; NaN for one value only.

    Equal probabilities count half.
    """
    positive, last_of_tie = _sorted_by_probability(target, probability)
    hits = np.cumsum(positive, axis=1, dtype=np.float64)
    misses = np.cumsum(~positive, axis=1, dtype=np.float64)

    def steps(cumulated: npt.NDArray[np.float64]) -> tuple[Array, Array]:
        reached = np.maximum.accumulate(np.where(last_of_tie, cumulated, 0.0), axis=1)
        before = np.concatenate([np.zeros((len(reached), 1)), reached[:, :-1]], axis=1)
        return reached, before

    hits_at, hits_before = steps(hits)
    misses_at, misses_before = steps(misses)
    area = (0.5 * (hits_at + hits_before) * (misses_at - misses_before)).sum(axis=1)
    pairs = hits[:, -1] * misses[:, -1]
    result: npt.NDArray[np.float64] = np.divide(
        area, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0
    )
    return result


def _sorted_by_probability(
    target: Array, probability: Array
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return, per label [n_labels, n], the targets by falling probability and the ends of ties.

    float32 is sorted as packed integers (the order-preserving bits above the target's bit), which
    needs no index array; other types go through argsort.
    """
    labels = np.ascontiguousarray(multilabel(target, probability.shape[1]).T)
    scores = np.ascontiguousarray(probability.T)
    if scores.dtype == np.float32:
        bits = (scores + np.float32(0)).view(np.int32)  # + 0: no negative zero
        ordered = np.where(bits < 0, ~bits, bits ^ np.int32(-(2**31))).view(np.uint32)
        packed = (~ordered).astype(np.uint64) << np.uint64(1) | labels.astype(np.uint64)
        packed.sort(axis=1)
        positive = (packed & np.uint64(1)).astype(np.bool_)
        keys: Array = packed >> np.uint64(1)
    else:
        order = np.argsort(-scores, axis=1, kind="stable")
        positive = np.take_along_axis(labels, order, axis=1)
        keys = np.take_along_axis(scores, order, axis=1)
    last_of_tie = np.ones(keys.shape, dtype=np.bool_)
    last_of_tie[:, :-1] = keys[:, 1:] != keys[:, :-1]
    return positive, last_of_tie


def mean_of_extended(values: npt.NDArray[np.float64]) -> float:
    """Return the mean of values that may be infinite, without a warning for inf - inf."""
    if np.isnan(values).any() or (np.isposinf(values).any() and np.isneginf(values).any()):
        return float("nan")
    return float(np.mean(values))
