"""Which encoders differ over all tasks of a protocol together, and the groups that do not.

A pair's tests on its tasks are joined by Stouffer's sum of signed normal deviates (Stouffer et al.,
The American Soldier, 1949): valid where the clips of two tasks are independent. Holm's correction
is over the pairs. Groups are drawn as in Demsar's diagram (JMLR 7, 2006).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from mambabench.report.statistics.intervals import holm

if TYPE_CHECKING:
    from mambabench.report.rows import Summary
    from mambabench.report.statistics.comparison import Comparison
    from mambabench.report.statistics.ranks import Rank

__all__ = ["PairTest", "Standing", "standing"]

_LEVEL = 0.05
_FEW = 5  # tasks


@dataclass(frozen=True)
class PairTest:
    """Two encoders over all tasks together; z is above 0 where `encoder` is better."""

    encoder: str
    other: str
    n_tasks: int
    z: float
    p: float
    p_holm: float


@dataclass(frozen=True)
class Standing:
    """The mean ranks of a protocol, best first, and which of them are not told apart."""

    protocol: str
    ranks: tuple[Rank, ...]
    pairs: tuple[PairTest, ...]
    groups: tuple[tuple[int, int], ...]  # first and last place in `ranks`, at least two long
    note: str  # what the groups rest on, or why there are none


def standing(summary: Summary, protocol: str) -> Standing | None:
    """Return the ranks and groups of a protocol; None below three encoders with every task.

    A group is a run of neighbours none of whose pairs differs (corrected p at least .05); runs that
    lie in a longer one are left out.
    """
    ranks = [r for r in summary.ranks if r.protocol == protocol and r.task is None]
    ranks.sort(key=lambda one: (one.rank, one.encoder))
    if len(ranks) < 3:
        return None
    names = [one.encoder for one in ranks]
    if summary.baseline is not None:
        note = "No groups: with a baseline not every pair is tested."
        return Standing(protocol, tuple(ranks), (), (), note)
    pairs = _pairs(summary, protocol, names)
    if len(pairs) < len(names) * (len(names) - 1) // 2:
        note = "No groups: not every pair has a test on some task."
        return Standing(protocol, tuple(ranks), pairs, (), note)
    note = (
        "Bars join encoders that do not differ over the tasks together: paired permutation tests "
        "of the tasks, joined by Stouffer's sum, Holm-corrected over the pairs, p < .05."
    )
    if ranks[0].n_tasks < _FEW:
        note += f" Only {ranks[0].n_tasks} tasks: ranks are coarse."
    return Standing(protocol, tuple(ranks), pairs, _groups(names, pairs), note)


def _pairs(summary: Summary, protocol: str, names: Sequence[str]) -> tuple[PairTest, ...]:
    better = {row.metric: row.higher_is_better for row in summary.rows}
    found: dict[tuple[str, str], list[float]] = {}
    for one in summary.comparisons:
        if one.protocol == protocol and one.encoder in names and one.other in names:
            z = _deviate(one, better[one.metric])
            if z is not None:
                found.setdefault((one.encoder, one.other), []).append(z)
    joined = {pair: sum(zs) / math.sqrt(len(zs)) for pair, zs in found.items()}
    p_values = [math.erfc(abs(z) / math.sqrt(2)) for z in joined.values()]
    corrected = holm(p_values)
    return tuple(
        PairTest(*pair, len(found[pair]), z, p, float(p_holm))
        for (pair, z), p, p_holm in zip(joined.items(), p_values, corrected, strict=True)
    )


def _deviate(one: Comparison, higher_is_better: bool) -> float | None:
    """Return the normal deviate of a two-sided p-value, signed by who is better."""
    if one.p is None or one.difference is None:
        return None
    sign = math.copysign(1.0, one.difference) * (1.0 if higher_is_better else -1.0)
    half = max(one.p / 2, 1e-300)
    return 0.0 if one.difference == 0 or one.p >= 1 else sign * -NormalDist().inv_cdf(half)


def _groups(names: Sequence[str], pairs: Sequence[PairTest]) -> tuple[tuple[int, int], ...]:
    apart = {frozenset((one.encoder, one.other)) for one in pairs if one.p_holm < _LEVEL}
    groups: list[tuple[int, int]] = []
    for first in range(len(names)):
        last = first
        while last + 1 < len(names) and all(
            frozenset((names[last + 1], names[i])) not in apart for i in range(first, last + 1)
        ):
            last += 1
        if last > first and not (groups and last <= groups[-1][1]):
            groups.append((first, last))
    return tuple(groups)
