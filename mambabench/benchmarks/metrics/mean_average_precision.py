"""Mean average precision (mAP) over the labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.metrics.metric import Metric, Ranked
from mambabench.benchmarks.metrics.ranks import average_precisions
from mambabench.benchmarks.metrics.targets import NAN, is_undefined, multilabel

__all__ = ["METRIC", "mean_average_precision"]

Array = npt.NDArray[Any]


def mean_average_precision(target: Array, probability: Array) -> float:
    """Return the mean over all labels of the average precision; a label without positives has 0.

    That convention is scikit-learn's since 1.0 (earlier ones gave NaN).
    """
    if is_undefined(probability):
        return NAN
    return float(np.mean(average_precisions(target, probability)))


def _chance(target: Array, n_labels: int) -> float:
    """The share of positives, as of equal probabilities."""
    return float(multilabel(target, n_labels).mean())


METRIC = Metric(
    "mAP",
    "mAP",
    statistic=Ranked("precision", absent_is_zero=True),
    compute=mean_average_precision,
    chance=_chance,
    interval_note="interval over clips for the mAP of test sets of this size",
)
