"""Intervals over test clips: from resampled scores to two limits, and what to know about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.metrics import metric_of
from mambabench.benchmarks.metrics.metric import PerClip
from mambabench.report.statistics.intervals import Interval

__all__ = [
    "FEWEST_DRAWS",
    "FEWEST_UNITS",
    "Units",
    "clip_interval",
    "difference_intervals",
    "far_seeds",
    "units_note",
]

Array = npt.NDArray[Any]
FEWEST_UNITS = 6  # of which 2^6 exchanges reach p = .031; fewer cannot show a difference at .05
_FEW_ERRORS = 15  # below so many clips wrong (or right) an accuracy takes Wilson's interval
_FEW_UNITS = 12  # below so many, a row says so
_FEW_OF_A_LABEL = 10  # test clips, below which a row says so
FEWEST_DRAWS = 100  # resamples with a score that an interval needs
_LEVEL = 0.95


@dataclass(frozen=True)
class Units:
    """What was drawn: how many independent units of how unequal sizes, in how many strata."""

    n: int  # clips or clusters
    n_clips: int
    effective: float  # (sum of sizes)^2 / sum of squared sizes: `n` where all are equal
    n_strata: int
    clustered: bool
    fewest: int | None = None  # clips of the rarest label, in metrics that average over labels

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the variance between units."""
        return max(1.0, self.effective - self.n_strata)

    @property
    def small_sample(self) -> float:
        """What widens a bootstrap interval: m / (m - strata) on the variance, t for normal."""
        inflation = np.sqrt(max(self.effective, 2.0) / self.freedom)
        return float(_t(self.freedom) / _t(np.inf) * inflation)


def _t(freedom: float) -> float:
    from scipy.special import ndtri, stdtrit

    tail = 0.5 + _LEVEL / 2
    return float(ndtri(tail) if np.isinf(freedom) else stdtrit(freedom, tail))


def clip_interval(
    metric: str, score: float, resampled: Array, units: Units
) -> tuple[Interval | None, float, tuple[str, ...]]:
    """Return the 95 % interval of a score on new clips, the share of resamples used, and notes.

    The percentile interval of the resampled scores, its distances from the score widened for few
    units (`Units.small_sample`) and held within the metric's range. Accuracies of few errors or few
    hits take Wilson's interval, with the clips' number reduced by the design effect. None, with a
    note, where fewer than 100 resamples have a score or all have the same.
    """
    known = resampled[np.isfinite(resampled)]
    share = len(known) / len(resampled)
    if len(known) < FEWEST_DRAWS:
        text = f"no bootstrap: the score is undefined on {_percent(1 - share)} of resamples"
        return None, share, (text,)
    notes = []
    if share < 1:
        notes.append(
            f"interval over clips from the {_percent(share)} of resamples that have a score"
        )
    statistic = metric_of(metric).statistic
    hits = isinstance(statistic, PerClip) and statistic.binary
    clips = _wilson(score, known, units) if hits else None
    if clips is not None:
        notes.append("few errors or few hits: Wilson's interval over clips")
    elif float(np.ptp(known)) <= 1e-12:
        notes.append("no interval over clips: every resample has the same score")
        return None, share, tuple(notes)
    else:
        low, high = np.quantile(known, [0.5 - _LEVEL / 2, 0.5 + _LEVEL / 2])
        widen = units.small_sample
        clips = Interval(
            score - widen * (score - float(low)), score + widen * (float(high) - score)
        )
    return _within_range(metric, clips), share, tuple(notes)


def _percent(share: float) -> str:
    """A share as printed: never 100 % for less than all, nor 0 % for more than none."""
    text = f"{100 * share:.0f}"
    if text == "100" and share < 1:
        return f"{np.floor(1000 * share) / 10:.1f} %"
    return f"{100 * share:.1f} %" if text == "0" and share > 0 else f"{text} %"


def _wilson(score: float, resampled: Array, units: Units) -> Interval | None:
    """Wilson's score interval of an accuracy near 0 or 1; None elsewhere.

    The variance between units sets how many independent clips the score is worth: never more than
    there are, and as many as there are units where no unit differs.
    """
    if units.n_clips * min(score, 1 - score) >= _FEW_ERRORS:
        return None
    variance = float(resampled.var()) * max(units.effective, 2.0) / units.freedom
    n = float(units.n)
    if variance > 1e-15 and 0 < score < 1:
        n = min(float(units.n_clips), score * (1 - score) / variance)
    z2 = _t(units.freedom) ** 2
    middle = score + z2 / (2 * n)
    half = np.sqrt(z2 * (score * (1 - score) / n + z2 / (4 * n * n)))
    return Interval(float((middle - half) / (1 + z2 / n)), float((middle + half) / (1 + z2 / n)))


def _within_range(metric: str, interval: Interval) -> Interval:
    known = metric_of(metric)
    return Interval(max(known.lowest, interval.low), min(known.highest, interval.high))


def difference_intervals(
    differences: Array, observed: Array, units: Units
) -> list[Interval | None]:
    """Return the intervals of paired differences [n_pairs, n_resamples], observed [n_pairs].

    Percentiles of the resamples in which both scores are defined, widened as a score's own.
    """
    widen = units.small_sample
    result: list[Interval | None] = [None] * len(differences)
    whole = np.isfinite(differences).all(axis=1)
    limits = np.full((len(differences), 2), np.nan)
    levels = [0.5 - _LEVEL / 2, 0.5 + _LEVEL / 2]
    if whole.any():
        limits[whole] = np.quantile(differences[whole], levels, axis=1).T
    for number in np.flatnonzero(~whole).tolist():
        known = differences[number][np.isfinite(differences[number])]
        if len(known) >= FEWEST_DRAWS:
            limits[number] = np.quantile(known, levels)
    for number, ((low, high), centre) in enumerate(zip(limits, observed, strict=True)):
        if np.isfinite(low) and np.isfinite(high):
            result[number] = Interval(
                float(centre - widen * (centre - low)), float(centre + widen * (high - centre))
            )
    return result


def units_note(units: Units, metric: str) -> tuple[str, ...]:
    """Return what a row says of its units: not named, few, or what the interval stands for."""
    notes = []
    if not units.clustered:
        notes.append("clips taken as independent")
    kind = "clusters" if units.clustered else "clips"
    if units.n < FEWEST_UNITS:
        notes.append(f"too few {kind} to separate encoders: {units.n}")
    if units.effective < _FEW_UNITS:
        as_many = "" if round(units.effective) >= units.n else " of unequal sizes, worth "
        as_many += f"{units.effective:.0f}" if as_many else ""
        notes.append(
            f"{units.n} {kind}{as_many}: few, so the interval over clips is widened by Student's "
            "t and may still be too narrow"
        )
    if units.fewest is not None and units.fewest < _FEW_OF_A_LABEL:
        notes.append(
            f"a label has {units.fewest} test clips in a fold: the interval over clips may be too "
            "narrow"
        )
    if note := metric_of(metric).interval_note:
        notes.append(note)
    return tuple(notes)


def far_seeds(seeds: Sequence[int], scores: Sequence[float]) -> str | None:
    """Return a note where seeds lie far from the others, else None; needs five seeds.

    Far: more than .02 and more than seven robust deviations (1.4826 times the median absolute
    deviation) from the median. A t-interval does not hold for such a mixture.
    """
    if len(scores) < 5:
        return None
    values = np.asarray(scores, np.float64)
    middle = float(np.median(values))
    distance = np.abs(values - middle)
    far = distance > max(0.02, 7 * 1.4826 * float(np.median(distance)))
    if not far.any():
        return None
    named = ", ".join(
        f"{seed} ({score:.3f})"
        for seed, score, is_far in zip(seeds, values, far, strict=True)
        if is_far
    )
    return (
        f"seed {named} far from the median {middle:.3f}: the interval over seeds does not hold, "
        "read the median and train more seeds to learn how often this happens"
    )
