"""Accuracy: how often the likeliest label is the target; of pitches under a name of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.metrics.metric import Metric, PerClip
from mambabench.benchmarks.metrics.targets import NAN, is_undefined, label_index

__all__ = ["METRIC", "PITCH", "accuracy_of", "top1_accuracy"]

Array = npt.NDArray[Any]


def top1_accuracy(target: Array, probability: Array) -> float:
    """Return how often the likeliest label is the target; the first positive on multilabel data.

    The first of equal probabilities wins, as in numpy's argmax.
    """
    if is_undefined(probability):
        return NAN
    return float(np.mean(_right(label_index(target), np.argmax(probability, axis=1))))


def _right(truth: Array, likeliest: Array) -> Array:
    return np.asarray(likeliest == truth)


def _values(target: Array, probability: Array) -> Array:
    return _right(label_index(target), probability.argmax(axis=1)).astype(np.float64)


def _chance(target: Array, n_labels: int) -> float:
    return 1.0 / n_labels


def accuracy_of(name: str, title: str) -> Metric:
    """Return top-1 accuracy as the metric `name`."""
    return Metric(
        name,
        title,
        statistic=PerClip(_values, _right, binary=True),
        compute=top1_accuracy,
        chance=_chance,
    )


METRIC = accuracy_of("top1_acc", "accuracy")
PITCH = accuracy_of("pitch_acc", "pitch accuracy")
