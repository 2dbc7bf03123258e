"""Intervals, the paired test of sums over clips, Holm's correction and tie groups.

docs/report.md states every formula and what each interval covers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mambabench.report.statistics.resampling import N_PERMUTATIONS, signs

__all__ = [
    "Interval",
    "flip_test",
    "holm",
    "t_interval",
    "tie_groups",
]

Array = npt.NDArray[Any]


class Interval(NamedTuple):
    """A two-sided 95 % interval."""

    low: float
    high: float


def t_interval(scores: Sequence[float] | Array, level: float = 0.95) -> Interval | None:
    """Student's t-interval of the mean over seeds; None for fewer than two.

    Covers the mean over all seeds of the same test clips (Yadav and Tan report its half-width).
    """
    from scipy.special import stdtrit

    n = len(scores)
    if n < 2:
        return None
    mean = float(np.mean(scores))
    half = float(stdtrit(n - 1, 0.5 + level / 2)) * float(np.std(scores, ddof=1)) / math.sqrt(n)
    return Interval(mean - half, mean + half)


def flip_test(parts: Array, pairs: Array, key: str, n_permutations: int = N_PERMUTATIONS) -> Array:
    """Return two-sided p-values [n_pairs] of sign-flip permutation tests.

    parts [n_units, n_encoders] are each unit's part of each encoder's score, pairs [n_pairs, 2]
    columns of it. Under the null hypothesis a unit's difference is as likely to be negated. Where
    no random flip is as extreme as the data, Hoeffding's bound 2 exp(-d^2 / (2 sum d_i^2)) of the
    exact p-value replaces 1 / (n + 1) if it is smaller: it resolves what counting cannot.
    """
    left, right = pairs.T
    total = parts.sum(axis=0)
    observed = np.abs(total[left] - total[right])
    # differences that are zero but for rounding are zero: they would decide ties at random
    scale = np.abs(parts).sum(axis=0)
    threshold = observed - 1e-12 * (scale[left] + scale[right])
    hits, n_seen = np.zeros(len(pairs), np.int64), 0
    for chunk in signs(key, len(parts), n_permutations):
        flipped = chunk @ parts
        hits += (np.abs(flipped[:, left] - flipped[:, right]) >= threshold).sum(axis=0)
        n_seen += len(chunk)
    p = hits / n_seen
    power = np.array([((parts[:, i] - parts[:, j]) ** 2).sum() for i, j in pairs])
    with np.errstate(invalid="ignore", divide="ignore"):
        bound = 2 * np.exp(-(observed**2) / (2 * power))
    return np.where((hits == 1) & (bound < p), bound, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values, in the order given (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * float(p_values[index])))
        adjusted[int(index)] = largest
    return adjusted


def tie_groups(
    names: Sequence[str],
    differ: set[frozenset[str]],
    untold: Collection[frozenset[str]] = frozenset(),
) -> dict[str, str]:
    """Return each name's letters: two names share a letter exactly if they do not differ.

    `names` are in order of rank, best first, so that "a" is the best one's group. A group of which
    no pair could have been told apart (`untold`) has no letter: it is no tie. Piepho's
    insert-and-absorb algorithm (2004).
    """
    columns: list[frozenset[str]] = [frozenset(names)] if names else []
    for pair in sorted(differ, key=sorted):
        split = [c - {name} for c in columns if pair <= c for name in pair]
        kept = [c for c in columns if not pair <= c] + split
        unique = set(kept)
        columns = [c for c in unique if c and not any(c < other for other in unique)]
    rank = {name: index for index, name in enumerate(names)}
    columns.sort(key=lambda column: sorted(rank[name] for name in column))
    letters = [
        "" if _none_told(column, untold) else _letter(number)
        for number, column in enumerate(columns)
    ]
    return {
        name: "".join(x for x, c in zip(letters, columns, strict=True) if name in c)
        for name in names
    }


def _none_told(column: frozenset[str], untold: Collection[frozenset[str]]) -> bool:
    return len(column) > 1 and all(
        frozenset(pair) in untold for pair in itertools.combinations(column, 2)
    )


def _letter(number: int) -> str:
    """0 -> a, 25 -> z, 26 -> a', ..."""
    return chr(ord("a") + number % 26) + "'" * (number // 26)
