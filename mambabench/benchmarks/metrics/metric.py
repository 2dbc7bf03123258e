"""What a metric is: one object that carries its name, its printing and its statistics.

A report never asks for a metric's name. How a score is resampled and how two encoders are compared
follows from `Metric.statistic`, one of six: the mean of what every clip has (`PerClip`), a
function of counts that add up over clips (`Counts`), a mean over labels of ranks (`Ranked`), a
function of the weights of clips that stand in it several times (`Drawn`), anything that can be
computed again on other clips (`Opaque`), or nothing that a report may draw (`Untested`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from mambabench.benchmarks.metrics.events import Events

__all__ = ["Counts", "Drawn", "Metric", "Opaque", "PerClip", "Ranked", "Statistic", "Untested"]

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]  # what one fold of a predictions file holds, by name


@dataclass(frozen=True)
class PerClip:
    """The score is the mean over clips of one value a clip, 0 to 1."""

    values: Callable[[Array, Array], Array] | None = None
    """(target, probability) -> float64 [n_clips]; None: the first of the clip's stored counts."""
    right: Callable[[Array, Array], Array] | None = None
    """(label index, index of the likeliest label) -> bool [n_clips], where no more is looked at."""
    binary: bool = (
        False  # every value is 0 or 1: near the ends of the scale Wilson's interval holds
    )


@dataclass(frozen=True)
class Counts:
    """The score is a function of counts that are summed over clips."""

    parts: Callable[[Array], dict[str, Array]]
    """Sums [..., k] -> the score and its sub-results, each [...]; NaN where undefined."""
    primary: str  # which of them is the score
    of_clips: Callable[[Array, Array], Array] | None = None
    """(target, probability) -> float64 [n_clips, k]; None: the predictions hold the counts."""
    of_events: Callable[[Events, Events], Array] | None = None
    """(reference, predicted) -> float64 [n_clips, k], for timestamp tasks."""
    exact: Callable[[Array], Array] | None = None
    """Counts [n_seeds, n_clips, k] -> [n_clips], parts whose sum is the mean score of the seeds;
    None: the score is no such sum."""
    per_label: bool = False  # a mean over labels: few clips of a label make the interval too narrow

    def score(self, sums: Array) -> Array:
        """Return the score, [...], of summed counts [..., k]; NaN where undefined."""
        return self.parts(sums)[self.primary]


@dataclass(frozen=True)
class Ranked:
    """The score is a mean over labels of what the order of the clips says."""

    of: Literal["precision", "area"]  # average precision, or the area under the ROC curve
    value: Callable[[Array], Array] | None = None  # of a label's area; None: the area itself
    slope: Callable[[Array], Array] | None = None
    """Derivative of `value`, up to a factor; it steers draws and need not be exact."""
    absent_is_zero: bool = False  # a label without a positive clip counts as 0


@dataclass(frozen=True)
class Opaque:
    """Nothing is known of the score: it is computed again on drawn and on exchanged clips."""


@dataclass(frozen=True)
class Drawn:
    """The score under weights of clips, where a clip stands in many parts of it (pairs of clips,
    queries in shared documents): intervals and tests both come from drawn clips or clusters."""

    weighted: Callable[[Arrays, Array, Array], Array]
    """(a fold's arrays, weights uint8 [n_clips, n], unit of each clip [n_clips]) -> scores [n]:
    clips of one unit are drawn together."""
    truth: tuple[str, ...]  # arrays that must be equal for two encoders to be compared
    rows: Callable[[Arrays, Array], dict[str, Array]] | None = None
    """(a fold's arrays, indices of clips) -> the arrays of these clips in this order; None: every
    array has a row a clip."""
    recentre: bool = False  # drawn scores lie to one side of the score


@dataclass(frozen=True)
class Untested:
    """A score without interval and test; the report prints the reason."""

    reason: str


Statistic = PerClip | Counts | Ranked | Drawn | Opaque | Untested


@dataclass(frozen=True)
class Metric:
    """One metric: its name in a task's `evaluation`, its direction, printing and statistics.

    `compute` scores scene tasks: target is [n] int (the label's index) or [n, n_labels] of 0 and 1,
    probability [n, n_labels] float; it returns NaN where the score is undefined.
    """

    name: str
    title: str  # for tables
    kind: str = "scene"  # of the tasks: scene, event, or one of `benchmarks.kinds`
    higher_is_better: bool = True
    share: bool = True  # printed in percent; else as it is, with three decimals
    lowest: float = 0.0
    highest: float = 1.0
    statistic: Statistic = field(default_factory=Opaque)
    compute: Callable[[Array, Array], float] | None = None
    of_arrays: Callable[[Arrays], float | None] | None = None
    """The score from a fold's stored arrays, where it follows from neither `compute` nor counts;
    None where they do not say."""
    chance: Callable[[Array, int], float] | None = None
    """(target, n_labels) -> the score of guesses that know nothing; None: it depends on more."""
    labels_problem: Callable[[Sequence[str]], tuple[str, str] | None] | None = None
    """Vocabulary -> what is wrong with it for this metric, and the remedy."""
    interval_note: str = ""  # what a row says of its interval over clips

    def __call__(self, target: Array, probability: Array) -> float:
        """Score a scene task; NaN where undefined or where a probability is NaN."""
        assert self.compute is not None, f"{self.name} scores no scenes: use counts and score"
        return self.compute(target, probability)

    def counts(self, reference: Events, predicted: Events) -> Array:
        """Return the sufficient statistics of every clip of a timestamp task, float64 [n, k]."""
        of_events = self.statistic.of_events if isinstance(self.statistic, Counts) else None
        assert of_events is not None, f"{self.name} scores no events"
        return of_events(reference, predicted)

    def score(self, sums: Array) -> Array:
        """Return the metric, [...], of summed counts [..., k]; NaN where undefined."""
        if isinstance(self.statistic, PerClip):
            return _ratio(sums)
        return self._counts.score(sums)

    def parts(self, sums: Array) -> dict[str, Array]:
        """Return the metric's sub-results, such as precision, of summed counts [..., k]."""
        return self._counts.parts(sums)

    @property
    def _counts(self) -> Counts:
        assert isinstance(self.statistic, Counts), f"{self.name} has no counts"
        return self.statistic

    def rows(self, arrays: Arrays, clips: Array) -> dict[str, Array]:
        """Return a fold's arrays for these clips (indices), in this order: one row a clip."""
        if isinstance(self.statistic, Drawn) and self.statistic.rows is not None:
            return self.statistic.rows(arrays, clips)
        n = len(arrays["clip"])
        return {k: v[clips] for k, v in arrays.items() if k[:6] != "event_" and len(v) == n}

    def stored(self, arrays: Arrays) -> tuple[bool, float]:
        """Return whether a fold's stored arrays allow to compute the score, and its value."""
        if f"counts:{self.name}" in arrays:
            return True, float(self.score(arrays[f"counts:{self.name}"].sum(axis=0)))
        if self.of_arrays is not None and (found := self.of_arrays(arrays)) is not None:
            return True, found
        if self.compute is not None and "probability" in arrays:
            return True, float(self(arrays["target"], arrays["probability"]))
        return False, float("nan")


def _ratio(sums: Array) -> Array:
    whole = sums[..., 1]
    return np.asarray(sums[..., 0] / np.where(whole > 0, whole, np.nan))
