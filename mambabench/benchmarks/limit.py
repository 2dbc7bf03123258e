"""A limited task: a part of every split, whole clusters, every label kept, under its own name.

Results on it are results on another task: `Task.limited` says so in every record and report.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Hashable, Sequence
from pathlib import Path

from mambabench.benchmarks.hear.clusters import cluster_names
from mambabench.benchmarks.subset import whole_task, write_part
from mambabench.benchmarks.task import Clip, Task
from mambabench.errors import MambabenchError

__all__ = ["limit_of", "limited_name", "limited_task", "parse_limit", "whole_name"]

# TASK.limit-100, or TASK.max6 of `subset_task`
_PART = re.compile(r"(?P<whole>.+)\.(?P<how>limit-|max)(?P<much>[0-9.e-]+)")


def parse_limit(text: str) -> int | float:
    """Return a number of clips ("100") or a share of them ("0.05", "5%") of every split."""
    number, percent = text.removesuffix("%"), text.endswith("%")
    try:
        if number.isdigit() and not percent:
            value: int | float = int(number)
        else:
            value = float(number) / (100 if percent else 1)
    except ValueError:
        value = -1
    share = isinstance(value, float)
    if not value > 0 or (share and not value < 1):
        raise MambabenchError(
            f"--limit {text!r} is no number of clips a split, such as 100, and no share of them "
            "below 1, such as 0.05 or 5%"
        )
    return value


def limited_name(task: str, limit: int | float) -> str:
    """Return what a task is called when it is limited: ``TASK.limit-100``, ``TASK.limit-0.05``."""
    return f"{task}.limit-{limit:g}" if isinstance(limit, float) else f"{task}.limit-{limit}"


def limit_of(name: str) -> str:
    """Return how a limited task's name limits it ("limit 100", "max 6"), "" of any other."""
    found = _PART.fullmatch(name)
    return f"{found['how'].rstrip('-')} {found['much']}" if found else ""


def whole_name(name: str) -> str:
    """Return the name of the task that a limited one is a part of; of another its own."""
    found = _PART.fullmatch(name)
    return found["whole"] if found else name


def limited_task(directory: Path, below: Path, limit: int | float) -> Path:
    """Write the part of a task below `below` and return its folder; audio is linked, not copied.

    Clusters (speakers, recordings) are taken whole in the order of a hash of their names, first
    until every label of a split is there, then while they fit: the same call gives the same part
    everywhere. Raises DataError for tasks whose clips are judged in pairs, or where the folder
    cannot be written.
    """
    task = whole_task(directory)
    target = below / limited_name(task.name, limit)
    write_part(task, target, {s: _chosen(task, s, limit) for s in task.splits}, _said(limit))
    return target


def _said(limit: int | float) -> str:
    share = isinstance(limit, float)
    return f"{100 * limit:g} % of each split" if share else f"at most {limit} clips of each split"


def _chosen(task: Task, split: str, limit: int | float) -> list[str]:
    """Return the names of the clips of a split that are kept."""
    clips = task.clips[split]
    most = limit if isinstance(limit, int) else max(1, math.floor(limit * len(clips) + 0.5))
    if most >= len(clips):
        return [clip.name for clip in clips]
    units = _units(task, clips)
    order = sorted(units, key=lambda unit: hashlib.sha256(repr(unit).encode()).hexdigest())
    labels = {unit: {label for clip in units[unit] for label in _labels(clip)} for unit in order}
    rarest = sorted(
        {label for found in labels.values() for label in found},
        key=lambda label: (sum(label in found for found in labels.values()), label),
    )
    kept: dict[Hashable, None] = {}
    there: set[str] = set()
    for label in rarest:
        if label not in there:
            unit = min(
                (unit for unit in order if label in labels[unit] and unit not in kept),
                key=lambda unit: len(units[unit]),  # the first of the smallest
            )
            kept[unit] = None
            there |= labels[unit]
    n = sum(len(units[unit]) for unit in kept)
    for unit in order:
        if unit not in kept and n + len(units[unit]) <= most:
            kept[unit] = None
            n += len(units[unit])
    if not kept:  # no labels, and every cluster is larger than the part
        kept[min(order, key=lambda unit: len(units[unit]))] = None
    return [clip.name for unit in kept for clip in units[unit]]


def _units(task: Task, clips: Sequence[Clip]) -> dict[Hashable, list[Clip]]:
    """Return what is kept or left out as one: clusters, crops of a clip, or single clips."""
    known: Sequence[str | None] = [clip.cluster for clip in clips]
    if not any(known):
        known = cluster_names(task.name, [clip.name for clip in clips]) or known
    units: dict[Hashable, list[Clip]] = {}
    for clip, cluster in zip(clips, known, strict=True):
        crop = clip.source.crop_of if clip.source else None
        key = ("cluster", cluster) if cluster else ("clip", crop or clip.name)
        units.setdefault(key, []).append(clip)
    return units


def _labels(clip: Clip) -> set[str]:
    return {*clip.labels, *(event.label for event in clip.events)}
