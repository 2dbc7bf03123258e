"""Macro F1: the mean F1 of the labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.metrics.confusion import confusion, confusion_of_clips, mean_ratio
from mambabench.benchmarks.metrics.metric import Counts, Metric
from mambabench.benchmarks.metrics.targets import (
    NAN,
    is_undefined,
    label_index,
)

__all__ = ["METRIC", "macro_f1"]

Array = npt.NDArray[Any]


def macro_f1(target: Array, probability: Array) -> float:
    """Return the mean F1 over the labels that occur in target or prediction; 0 where 0 / 0."""
    if is_undefined(probability):
        return NAN
    table = confusion(target, probability)
    both = table.sum(axis=0) + table.sum(axis=1)
    present = both > 0
    return float(np.mean(2.0 * np.diag(table)[present] / both[present]))


def _parts(sums: Array) -> dict[str, Array]:
    """Mean F1 of the labels that occur or are predicted; 0 for one never hit."""
    hits, truths, predictions = np.split(sums, 3, axis=-1)
    return {"f_measure": mean_ratio(2 * hits, truths + predictions)}


def _chance(target: Array, n_labels: int) -> float:
    """Guess among all labels, each as often: precision is a label's share, recall 1 / labels."""
    share = np.bincount(label_index(target), minlength=n_labels) / len(target)
    return float(np.mean(2 * share / n_labels / (share + 1 / n_labels)))


METRIC = Metric(
    "macro_f1",
    "macro F1",
    statistic=Counts(_parts, "f_measure", of_clips=confusion_of_clips, per_label=True),
    compute=macro_f1,
    chance=_chance,
)
