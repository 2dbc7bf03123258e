"""Unweighted average recall (UAR): the mean recall of the labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.metrics.confusion import confusion, confusion_of_clips, mean_ratio
from mambabench.benchmarks.metrics.metric import Counts, Metric
from mambabench.benchmarks.metrics.targets import (
    NAN,
    is_undefined,
)

__all__ = ["METRIC", "unweighted_average_recall"]

Array = npt.NDArray[Any]


def unweighted_average_recall(target: Array, probability: Array) -> float:
    """Return the mean over the labels that occur in the target of their recall."""
    if is_undefined(probability):
        return NAN
    table = confusion(target, probability)
    support = table.sum(axis=1)
    present = support > 0
    return float(np.mean(np.diag(table)[present] / support[present]))


def _parts(sums: Array) -> dict[str, Array]:
    hits, truths, _ = np.split(sums, 3, axis=-1)
    return {"recall": mean_ratio(hits, truths)}


def _exact(counts: Array) -> Array:
    """Each clip's part of the seed-mean UAR: hit / (clips of its label * labels), [n_clips]."""
    hits, truths, _ = np.split(counts, 3, axis=-1)
    of_class = truths[0].sum(axis=0)
    weight = np.where(of_class > 0, 1 / np.maximum(of_class, 1), 0.0) / (of_class > 0).sum()
    return np.asarray(hits.mean(axis=0) @ weight)


def _chance(target: Array, n_labels: int) -> float:
    return 1.0 / n_labels


METRIC = Metric(
    "uar",
    "UAR",
    statistic=Counts(_parts, "recall", of_clips=confusion_of_clips, exact=_exact, per_label=True),
    compute=unweighted_average_recall,
    chance=_chance,
)
