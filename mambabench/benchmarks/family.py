"""What every family of tasks hands out: its rows, and the preparation of a corpus as a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mambabench.benchmarks.task import Defect

__all__ = ["FamilyScore", "Prepared", "TaskFamily", "TaskRow"]


@dataclass(frozen=True)
class TaskRow:
    """One line of ``tasks list``; None where it is not known."""

    name: str  # the directory's name
    family: str
    title: str
    embedding_type: str
    prediction_type: str
    split_mode: str
    n_splits: int
    n_labels: int | None
    metric: str  # primary
    sample_duration_s: float | None
    n_clips: int | None
    directory: str | None = None  # where it was found
    domain: str = ""  # what is heard: speech, music, sound
    hours: float | None = None  # of audio
    sources: tuple[str, ...] = ()  # BibTeX keys of what it is made from


@dataclass(frozen=True)
class Prepared:
    """What `prepare` wrote."""

    directory: Path
    n_clips: Mapping[str, int]  # split -> clips, stored crops counted
    notes: tuple[str, ...]


@dataclass(frozen=True)
class FamilyScore:
    """A family's own score over all its tasks, which stands instead of others under its protocols.

    The score is the mean of the tasks' points, and there is none where a task is missing.
    """

    name: str  # as the report prints it
    points_name: str  # of a single task's points, likewise
    protocols: tuple[str, ...]  # whose heads it is defined for, grids of another name included
    tasks: Mapping[str, str]  # every task that it needs, in order: directory -> short name
    references: tuple[str, ...]  # what the scale is pinned to
    # (directory, metric -> value in per cent) -> points; None where a metric is missing
    points: Callable[[str, Mapping[str, float]], float | None]


@dataclass(frozen=True)
class TaskFamily:
    """Some tasks that belong together; other packages add theirs as ``mambabench.tasks``.

    `rows()` returns the lines of ``tasks list``. `prepare(name, data, to)` writes the task
    directory `to`/`name` from the corpus below `data`; `prepares` are the names that it takes.
    `check(name, data)` lists what is wrong with the corpus that a prepared task points at.
    """

    name: str
    rows: Callable[[], Iterable[TaskRow]]
    prepares: tuple[str, ...] = ()
    prepare: Callable[[str, Path, Path], Prepared] | None = None
    check: Callable[[str, Path], Iterable[Defect]] | None = None
    score: FamilyScore | None = None
    short_titles: bool = False  # its titles are names that a column of a table has room for
    sources: tuple[str, ...] = ()  # BibTeX keys of the family as a whole
