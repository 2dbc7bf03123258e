"""Equal error rate (EER) of verification trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.metrics.metric import Metric, Untested

__all__ = ["METRIC", "equal_error_rate"]


def equal_error_rate(
    same: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]
) -> tuple[float, float]:
    """Return (EER as a fraction, threshold) of verification trials.

    The point where the false-acceptance rate equals the false-rejection rate on the piecewise
    linear ROC curve, as SUPERB's root finding on the interpolated curve gives. NaN where all trials
    are of one kind.
    """
    n_same = int(same.sum())
    n_other = len(same) - n_same
    if n_same == 0 or n_other == 0:
        return float("nan"), float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked, values = same[order], scores[order]
    last = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)  # ties are one step
    accepted_same = np.concatenate(([0.0], np.cumsum(ranked)[last] / n_same))
    accepted_other = np.concatenate(([0.0], np.cumsum(~ranked)[last] / n_other))
    gap = accepted_other - (1.0 - accepted_same)  # false acceptance minus false rejection, rising
    upper = int(np.argmax(gap >= 0))
    lower = max(upper - 1, 0)
    span = gap[upper] - gap[lower]
    share = 0.0 if span == 0 else -gap[lower] / span
    rate = accepted_other[lower] + share * (accepted_other[upper] - accepted_other[lower])
    return float(rate), float(values[last[max(upper - 1, 0)]])


def _of_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> float | None:
    if "trial_score" not in arrays:
        return None
    return equal_error_rate(arrays["trial_same"], arrays["trial_score"])[0]


METRIC = Metric(
    "eer",
    "equal error rate",
    "trials",
    higher_is_better=False,
    statistic=Untested(
        "a trial joins two clips and speakers stand in many trials, so that trials are not "
        "independent and clips cannot be drawn one by one"
    ),
    of_arrays=_of_arrays,
    chance=lambda target, n_labels: 0.5,
)
