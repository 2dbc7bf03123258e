"""Two encoders over all their tasks: wins, ties, losses and the mean difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mambabench.report.statistics.comparison import Comparison
from mambabench.report.statistics.seeds import metric_range

__all__ = ["Versus", "versus"]

_LEVEL = 0.05


@dataclass(frozen=True)
class Versus:
    """One pair of encoders under one protocol."""

    protocol: str
    encoder: str
    other: str
    wins: int  # tasks on which `encoder` is better, p corrected within the task below .05
    ties: int
    losses: int
    untested: int  # tasks that both have but no test could be made on
    n_mean: int  # tasks in the mean: those whose metric is a share of 1, higher being better
    mean: float | None  # over these, of `encoder` minus `other`; each task counts alike
    low: float | None  # 95 % over their clips, the tasks' clips being independent
    high: float | None


def versus(
    comparisons: Sequence[Comparison], higher_is_better: dict[str, bool]
) -> tuple[Versus, ...]:
    """Return every pair that has at least two tasks; `higher_is_better` by metric.

    The interval adds the variances that the tasks' paired intervals stand for, as of normal
    distributions: exact neither with few clips nor at the ends of a scale.
    """
    pairs: dict[tuple[str, str, str], list[Comparison]] = {}
    for one in comparisons:
        if one.difference is not None:
            pairs.setdefault((one.protocol, one.encoder, one.other), []).append(one)
    return tuple(
        _versus(*names, own, higher_is_better)
        for names, own in sorted(pairs.items())
        if len(own) > 1
    )


def _versus(
    protocol: str, encoder: str, other: str, own: Sequence[Comparison], better: dict[str, bool]
) -> Versus:
    ahead, behind, ties = 0, 0, 0
    for one in own:
        if one.p_holm is None or one.difference is None or one.too_few:
            continue
        if one.p_holm >= _LEVEL:
            ties += 1
        elif (one.difference > 0) == better[one.metric]:
            ahead += 1
        else:
            behind += 1
    shares = [
        one
        for one in own
        if better[one.metric]
        and metric_range(one.metric) == (0.0, 1.0)
        and one.difference is not None
    ]
    differences = [one.difference for one in shares if one.difference is not None]
    mean = math.fsum(differences) / len(shares) if shares else None
    widths = [
        (one.boot_high - one.boot_low) / 2
        for one in shares
        if one.boot_low is not None and one.boot_high is not None
    ]
    half = None
    if mean is not None and len(widths) == len(shares):
        half = math.sqrt(math.fsum(width**2 for width in widths)) / len(shares)
    return Versus(
        *(protocol, encoder, other, ahead, ties, behind),
        untested=len(own) - ahead - ties - behind,
        n_mean=len(shares),
        mean=mean,
        low=None if half is None or mean is None else mean - half,
        high=None if half is None or mean is None else mean + half,
    )
