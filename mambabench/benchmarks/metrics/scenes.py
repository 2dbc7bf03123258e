"""Metrics of scene tasks: functions of targets and probabilities, as HEAR 2021 scores them.

Targets are [n] int (the label's index) or [n, n_labels] of 0 and 1, probabilities [n, n_labels].
Every function returns NaN for no clips and for NaN probabilities: such a head ranks worst.
Source: hear-eval-kit's scores; agreement with scikit-learn to 1e-9 is tested.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "area_under_roc",
    "average_precisions",
    "chroma_accuracy",
    "class_aucs",
    "d_prime",
    "macro_f1",
    "mean_average_precision",
    "top1_accuracy",
    "unweighted_average_recall",
]

Array = npt.NDArray[Any]
_NAN = float("nan")


def top1_accuracy(target: Array, probability: Array) -> float:
    """Return how often the likeliest label is the target; the first positive on multilabel data.

    The first of equal probabilities wins, as in numpy's argmax.
    """
    if _is_undefined(probability):
        return _NAN
    return float(np.mean(np.argmax(probability, axis=1) == _label_index(target)))


def chroma_accuracy(target: Array, probability: Array) -> float:
    """Return how often the likeliest label and the target agree modulo 12 of their index.

    As HEAR computes it: an octave error is forgiven only where the vocabulary is every semitone
    without a gap.
    """
    if _is_undefined(probability):
        return _NAN
    return float(np.mean(np.argmax(probability, axis=1) % 12 == _label_index(target) % 12))


def unweighted_average_recall(target: Array, probability: Array) -> float:
    """Return the mean over the labels that occur in the target of their recall."""
    if _is_undefined(probability):
        return _NAN
    confusion = _confusion(target, probability)
    support = confusion.sum(axis=1)
    present = support > 0
    return float(np.mean(np.diag(confusion)[present] / support[present]))


def macro_f1(target: Array, probability: Array) -> float:
    """Return the mean F1 over the labels that occur in target or prediction; 0 where 0 / 0."""
    if _is_undefined(probability):
        return _NAN
    confusion = _confusion(target, probability)
    both = confusion.sum(axis=0) + confusion.sum(axis=1)
    present = both > 0
    return float(np.mean(2.0 * np.diag(confusion)[present] / both[present]))


def mean_average_precision(target: Array, probability: Array) -> float:
    """Return the mean over all labels of the average precision; a label without positives has 0.

    That convention is scikit-learn's since 1.0 (earlier ones gave NaN).
    """
    if _is_undefined(probability):
        return _NAN
    return float(np.mean(average_precisions(target, probability)))


def area_under_roc(target: Array, probability: Array) -> float:
    """Return the mean over labels of the area under the ROC curve.

    NaN if a label has only one value.
    """
    return _NAN if _is_undefined(probability) else float(np.mean(class_aucs(target, probability)))


def d_prime(target: Array, probability: Array) -> float:
    """Return the mean over labels of sqrt(2) times the normal quantile of the label's AUC.

    Infinite if a label is separated perfectly, NaN if a label has only one value.
    """
    if _is_undefined(probability):
        return _NAN
    from scipy.special import ndtri

    return _mean_of_extended(np.sqrt(2.0) * ndtri(class_aucs(target, probability)))


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
    labels = np.ascontiguousarray(_one_hot(target, probability.shape[1]).T)
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


def _one_hot(target: Array, n_labels: int) -> npt.NDArray[np.bool_]:
    if target.ndim == 2:
        return target.astype(np.bool_)
    result: npt.NDArray[np.bool_] = target[:, None] == np.arange(n_labels)
    return result


def _label_index(target: Array) -> Array:
    result: Array = np.argmax(target, axis=1) if target.ndim == 2 else target
    return result


def _confusion(target: Array, probability: Array) -> npt.NDArray[np.float64]:
    n_labels = probability.shape[1]
    pairs = _label_index(target) * n_labels + np.argmax(probability, axis=1)
    counts = np.bincount(pairs, minlength=n_labels * n_labels)
    return counts.reshape(n_labels, n_labels).astype(np.float64)


def _mean_of_extended(values: npt.NDArray[np.float64]) -> float:
    """Return the mean of values that may be infinite, without a warning for inf - inf."""
    if np.isnan(values).any() or (np.isposinf(values).any() and np.isneginf(values).any()):
        return _NAN
    return float(np.mean(values))


def _is_undefined(probability: Array) -> bool:
    return probability.size == 0 or bool(np.isnan(probability).any())
