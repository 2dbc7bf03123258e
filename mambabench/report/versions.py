"""Versions of a protocol: numbers of two of them are not compared, though both are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mambabench.report.runs import Flag, Group

__all__ = ["OLDER", "flag_older", "other_versions", "same_version"]

OLDER = "older-protocol"  # code of the flag
_MIXED = "versions"  # how the flag of a row of several versions begins


def _versions(group: Group) -> frozenset[int]:
    """Versions of our own runs; hear-eval-kit's results have none."""
    return frozenset(r.record.protocol_version for r in group.runs if r.source == "mambabench")


def flag_older(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Flag the runs of every group that is not of the newest version beside it.

    Beside it: of the same task and protocol. Where all are of one version nothing is flagged.
    """
    newest: dict[tuple[str, str], int] = {}
    for group in groups:
        place = (group.task, group.protocol)
        newest[place] = max(newest.get(place, 0), *_versions(group), 0)
    return tuple(_flagged(group, newest[group.task, group.protocol]) for group in groups)


def _flagged(group: Group, newest: int) -> Group:
    own = _versions(group)
    if not own or own == {newest}:
        return group
    text = f"{_named(own)} of {group.protocol}, beside version {newest}: not compared; probe again"
    flag = Flag(OLDER, text)
    runs = tuple(replace(run, flags=(*run.flags, flag)) for run in group.runs)
    return replace(group, runs=runs)


def other_versions(one: Group, other: Group) -> str | None:
    """Say that two groups are not of one version of their protocol, else None."""
    a, b = _versions(one), _versions(other)
    if not a or not b or (a == b and len(a) == 1):
        return None
    return (
        f"different versions of {one.protocol}: {one.encoder} has {_named(a)}, {other.encoder} "
        f"has {_named(b)}; probe the older one again"
    )


def _named(versions: frozenset[int]) -> str:
    numbers = " and ".join(map(str, sorted(versions)))
    return f"version {numbers}" if len(versions) == 1 else f"{_MIXED} {numbers}"


def same_version(one: Sequence[Flag], other: Sequence[Flag]) -> bool:
    """Whether two rows of a task and a protocol, told by their flags, are of one version of it."""
    a, b = ([flag.text for flag in flags if flag.code == OLDER] for flags in (one, other))
    return a == b and not any(text.startswith(_MIXED) for text in a)
