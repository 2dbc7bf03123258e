"""d': sqrt(2) times the normal quantile of the AUC, the mean over the labels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.metrics.metric import Metric, Ranked
from mambabench.benchmarks.metrics.ranks import class_aucs, mean_of_extended
from mambabench.benchmarks.metrics.targets import NAN, is_undefined

__all__ = ["METRIC", "d_prime"]

Array = npt.NDArray[Any]


def d_prime(target: Array, probability: Array) -> float:
    """Return the mean over labels of sqrt(2) times the normal quantile of the label's AUC.

    Infinite if a label is separated perfectly, NaN if a label has only one value.
    """
    if is_undefined(probability):
        return NAN
    return mean_of_extended(_of_area(class_aucs(target, probability)))


def _of_area(area: Array) -> Array:
    from scipy.special import ndtri

    return np.asarray(np.sqrt(2.0) * ndtri(area))


def _slope(area: Array) -> Array:
    from scipy.special import ndtri

    return np.asarray(np.exp(0.5 * ndtri(area) ** 2))


def _chance(target: Array, n_labels: int) -> float:
    return 0.0


METRIC = Metric(
    "d_prime",
    "d'",
    share=False,
    lowest=-math.inf,
    highest=math.inf,
    statistic=Ranked("area", value=_of_area, slope=_slope),
    compute=d_prime,
    chance=_chance,
)
