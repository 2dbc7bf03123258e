"""Hits, truths and predictions of every label, and means over labels of their ratios."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.metrics.targets import label_index

__all__ = ["confusion", "confusion_of_clips", "mean_ratio"]

Array = npt.NDArray[Any]


def mean_ratio(numerator: Array, denominator: Array) -> Array:
    """Mean over the last axis of the ratios whose denominator is not 0; NaN where all are."""
    some = denominator > 0
    ratio = np.where(some, numerator / np.where(some, denominator, 1.0), 0.0)
    n = some.sum(axis=-1)
    return np.asarray(np.where(n > 0, ratio.sum(axis=-1) / np.maximum(n, 1), np.nan))


def confusion_of_clips(target: Array, probability: Array) -> npt.NDArray[np.float64]:
    """Return hits, truths and predictions of every label, per clip: float64 [n, 3 * n_labels]."""
    n_clips, n_labels = probability.shape
    truth, predicted = np.zeros((2, n_clips, n_labels))
    truth[np.arange(n_clips), label_index(target)] = 1
    predicted[np.arange(n_clips), probability.argmax(axis=1)] = 1
    return np.concatenate([truth * predicted, truth, predicted], axis=1)


def confusion(target: Array, probability: Array) -> npt.NDArray[np.float64]:
    """Return how often each label was taken for each, float64 [n_labels, n_labels]."""
    n_labels = probability.shape[1]
    pairs = label_index(target) * n_labels + np.argmax(probability, axis=1)
    counts = np.bincount(pairs, minlength=n_labels * n_labels)
    return counts.reshape(n_labels, n_labels).astype(np.float64)
