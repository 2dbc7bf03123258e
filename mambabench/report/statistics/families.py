"""Holm's corrections of a report's comparisons; the smallest difference that a task can show."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from mambabench.report.statistics.comparison import Comparison
from mambabench.report.statistics.intervals import holm

__all__ = ["corrected", "smallest_differences"]


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Fill in both corrected p-values, in the order given.

    `p_holm` answers "on this task": its family is what is compared on one task under one protocol,
    so that a verdict does not change with the other tasks of a report. `p_report` answers "anywhere
    in this report": its family is all tasks of the protocol. A test that has a p-value and a
    `reason` (too few clips to come out at .05) takes part in neither.
    """
    result = list(comparisons)
    for index, value in _holm(result, lambda one: (one.protocol, one.task)).items():
        result[index] = replace(result[index], p_holm=value)
    for index, value in _holm(result, lambda one: one.protocol).items():
        result[index] = replace(result[index], p_report=value)
    return result


def _holm(
    comparisons: Sequence[Comparison], family: Callable[[Comparison], object]
) -> dict[int, float]:
    """Return corrected p-values by index into the comparisons."""
    adjusted: dict[int, float] = {}
    for members in _families(comparisons, family):
        p_values = [p for index in members if (p := comparisons[index].p) is not None]
        adjusted |= zip(members, holm(p_values), strict=True)
    return adjusted


def _families(
    comparisons: Sequence[Comparison], family: Callable[[Comparison], object]
) -> Iterable[list[int]]:
    found: dict[object, list[int]] = {}
    for index, one in enumerate(comparisons):
        if one.p is not None and one.reason is None:
            found.setdefault(family(one), []).append(index)
    return found.values()


def smallest_differences(comparisons: Sequence[Comparison]) -> dict[tuple[str, str], float]:
    """Return, by (protocol, task), the smallest difference that its clips can show.

    It is the median over the compared pairs of half the width of the paired interval over clips (or
    clusters): encoders that differ by less have 0 in that interval. It follows from how many clips
    there are and on how many of them such encoders disagree. Pairs without an interval, and those
    that agree on every clip, say nothing; a task without others is left out.
    """
    widths: dict[tuple[str, str], list[float]] = {}
    for one in comparisons:
        if one.boot_low is not None and one.boot_high is not None and one.reason is None:
            half = (one.boot_high - one.boot_low) / 2
            if half > 0:
                widths.setdefault((one.protocol, one.task), []).append(half)
    return {key: statistics.median(own) for key, own in widths.items()}
