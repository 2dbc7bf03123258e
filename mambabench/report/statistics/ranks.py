"""Ranks of encoders and their intervals, from resamples of clips that all of them share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Rank", "RankingEntry", "mean_ranks", "task_ranks"]

Array = npt.NDArray[Any]
_LEVEL = 0.95


@dataclass(frozen=True)
class Rank:
    """Place of one encoder on one task, or its mean place over several; 1 is best."""

    encoder: str
    protocol: str
    task: str | None  # None: the mean over `n_tasks`
    rank: float  # equal scores share the mean of their places
    low: float | None  # 95 % percentile interval over shared resamples; None where there are none
    high: float | None
    n_encoders: int
    n_tasks: int = 1


@dataclass(frozen=True)
class RankingEntry:
    """What one encoder brings to the ranking of one task; higher is better in both."""

    score: float
    resampled: Array | None  # [n_resamples] float64
    test_key: str  # equal for encoders that were drawn the same clips


def places(scores: Array) -> Array:
    """Return places along the first axis, 1 for the highest; equal ones share their mean place."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(-scores, method="average", axis=0))


def _drawn(of: Mapping[str, RankingEntry], encoders: Sequence[str]) -> Array | None:
    """Places in every resample, [n_encoders, n_resamples]; None unless all have the same draws."""
    if len({of[name].test_key for name in encoders}) > 1:
        return None
    arrays = [of[name].resampled for name in encoders]
    if any(one is None or not np.isfinite(one).all() for one in arrays):
        return None
    return places(np.stack([one for one in arrays if one is not None]))


def _result(
    encoders: Sequence[str],
    protocol: str,
    task: str | None,
    point: Array,
    drawn: Array | None,
    n_tasks: int = 1,
) -> list[Rank]:
    tail = (1 - _LEVEL) / 2
    limits = None if drawn is None else np.quantile(drawn, [tail, 1 - tail], axis=1)
    return [
        Rank(
            *(name, protocol, task, float(point[i])),
            low=None if limits is None else float(limits[0, i]),
            high=None if limits is None else float(limits[1, i]),
            n_encoders=len(encoders),
            n_tasks=n_tasks,
        )
        for i, name in enumerate(encoders)
    ]


def task_ranks(protocol: str, task: str, of: Mapping[str, RankingEntry]) -> list[Rank]:
    """Rank the encoders of one task; `of` maps their labels to what they bring."""
    encoders = sorted(of)
    if len(encoders) < 2:
        return []
    point = places(np.array([of[name].score for name in encoders]))
    return _result(encoders, protocol, task, point, _drawn(of, encoders))


def mean_ranks(protocol: str, tasks: Mapping[str, Mapping[str, RankingEntry]]) -> list[Rank]:
    """Return the mean rank over all tasks, of and among the encoders that have every one of them.

    Tasks are drawn independently of each other, so resample b of the mean is the mean over tasks of
    the places in their resamples b. Without an interval where a task has none.
    """
    if len(tasks) < 2:
        return []
    encoders = sorted(set.intersection(*(set(of) for of in tasks.values())))
    if len(encoders) < 2:
        return []
    point = np.zeros(len(encoders))
    total: Array | None = np.zeros((len(encoders), 1))
    for of in tasks.values():
        point += places(np.array([of[name].score for name in encoders]))
        drawn = _drawn(of, encoders)
        total = None if total is None or drawn is None else total + drawn
    mean = None if total is None else total / len(tasks)
    return _result(encoders, protocol, None, point / len(tasks), mean, len(tasks))
