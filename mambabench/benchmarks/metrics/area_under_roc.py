"""Area under the ROC curve (AUC), the mean over the labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.metrics.metric import Metric, Ranked
from mambabench.benchmarks.metrics.ranks import class_aucs
from mambabench.benchmarks.metrics.targets import NAN, is_undefined

__all__ = ["METRIC", "area_under_roc"]

Array = npt.NDArray[Any]


def area_under_roc(target: Array, probability: Array) -> float:
    """Return the mean over labels of the area under the ROC curve.

    NaN if a label has only one value.
    """
    return NAN if is_undefined(probability) else float(np.mean(class_aucs(target, probability)))


def _chance(target: Array, n_labels: int) -> float:
    return 0.5


METRIC = Metric("aucroc", "AUC", statistic=Ranked("area"), compute=area_under_roc, chance=_chance)
