"""Chroma accuracy: pitch accuracy that forgives octaves, as HEAR 2021 scores it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.metrics.metric import Metric, PerClip
from mambabench.benchmarks.metrics.targets import NAN, is_undefined, label_index

__all__ = ["METRIC", "chroma_accuracy"]

Array = npt.NDArray[Any]


def chroma_accuracy(target: Array, probability: Array) -> float:
    """Return how often the likeliest label and the target agree modulo 12 of their index.

    As HEAR computes it: an octave error is forgiven only where the vocabulary is every semitone
    without a gap.
    """
    if is_undefined(probability):
        return NAN
    return float(np.mean(_right(label_index(target), np.argmax(probability, axis=1))))


def _right(truth: Array, likeliest: Array) -> Array:
    return np.asarray(likeliest % 12 == truth % 12)


def _values(target: Array, probability: Array) -> Array:
    return _right(label_index(target), probability.argmax(axis=1)).astype(np.float64)


def _chance(target: Array, n_labels: int) -> float:
    """Guess among all labels, each as often."""
    same = np.bincount(np.arange(n_labels) % 12, minlength=12)
    return float(np.mean(same[label_index(target) % 12]) / n_labels)


def _gaps(labels: Sequence[str]) -> tuple[str, str] | None:
    numbers = [int(label) for label in labels if label.lstrip("-").isdecimal()]
    first = min(numbers, default=0)
    if sorted(numbers) == list(range(first, first + len(labels))):
        return None
    return (
        "chroma_acc compares indices modulo 12, but the labels are not consecutive notes",
        "list every semitone of the range, or drop chroma_acc",
    )


METRIC = Metric(
    "chroma_acc",
    "chroma accuracy",
    statistic=PerClip(_values, _right, binary=True),
    compute=chroma_accuracy,
    chance=_chance,
    labels_problem=_gaps,
)
