"""Equal error rate (EER) of verification trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.metrics.metric import Drawn, Metric

__all__ = ["METRIC", "equal_error_rate", "weighted_eer"]

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
_LANES = 64  # draws handled side by side


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


def _of_arrays(arrays: Arrays) -> float | None:
    if "trial_score" not in arrays:
        return None
    return equal_error_rate(arrays["trial_same"], arrays["trial_score"])[0]


def weighted_eer(arrays: Arrays, weights: Array, units: Array) -> Array:
    """Return the EER under clip weights [n_clips, n], [n]; NaN where trials of a kind are missing.

    A trial of two units (speakers) counts as often as both were drawn together, one within a unit
    as often as that unit: copies of one speaker make no trial (Poh and Bengio 2007).
    """
    first, second = arrays["trial_first"], arrays["trial_second"]
    order = np.argsort(-arrays["trial_score"], kind="stable")
    first, second, same = first[order], second[order], arrays["trial_same"][order].astype(bool)
    values = arrays["trial_score"][order]
    last = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)  # ties are one step
    within = (units[first] == units[second])[:, None]
    result = np.empty(weights.shape[1])
    for start in range(0, len(result), _LANES):
        lanes = weights[:, start : start + _LANES].astype(np.int32)
        drawn = lanes[first]
        drawn = np.where(within, drawn, drawn * lanes[second])
        accepted = [
            np.cumsum(drawn * kind[:, None], axis=0, dtype=np.int64)[last] for kind in (same, ~same)
        ]
        result[start : start + _LANES] = _crossings(*accepted)
    return result


def _crossings(same: Array, other: Array) -> Array:
    """Return where false acceptances equal false rejections, from accepted trials [n_steps, n]."""
    n_same, n_other = same[-1], other[-1]
    defined = (n_same > 0) & (n_other > 0)
    right = same / np.maximum(n_same, 1)
    wrong = other / np.maximum(n_other, 1)
    gap = wrong - (1.0 - right)  # false acceptance minus false rejection, rising; -1 before all
    upper = np.argmax(gap >= 0, axis=0)
    lane = np.arange(gap.shape[1])
    at, before = gap[upper, lane], np.where(upper > 0, gap[upper - 1, lane], -1.0)
    floor = np.where(upper > 0, wrong[upper - 1, lane], 0.0)
    share = -before / np.where(at > before, at - before, 1.0)
    rate = floor + share * (wrong[upper, lane] - floor)
    return np.where(defined, rate, np.nan)


def _rows(arrays: Arrays, clips: Array) -> dict[str, Array]:
    """Return the arrays of these clips and the trials between them."""
    place = np.full(len(arrays["clip"]), -1)
    place[clips] = np.arange(len(clips))
    pairs = [place[arrays[name]] for name in ("trial_first", "trial_second")]
    kept = (pairs[0] >= 0) & (pairs[1] >= 0)
    found = {name: arrays[name][clips] for name in ("clip", "cluster") if name in arrays}
    found |= {name: arrays[name][kept] for name in ("trial_same", "trial_score")}
    return found | {"trial_first": pairs[0][kept], "trial_second": pairs[1][kept]}


METRIC = Metric(
    "eer",
    "equal error rate",
    "trials",
    higher_is_better=False,
    statistic=Drawn(weighted_eer, truth=("trial_first", "trial_second", "trial_same"), rows=_rows),
    of_arrays=_of_arrays,
    chance=lambda target, n_labels: 0.5,
)
