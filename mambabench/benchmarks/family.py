"""What every family of tasks hands out: its rows, and the preparation of a corpus as a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Prepared", "TaskFamily", "TaskRow"]


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


@dataclass(frozen=True)
class Prepared:
    """What `prepare` wrote."""

    directory: Path
    n_clips: Mapping[str, int]  # split -> clips, stored crops counted
    notes: tuple[str, ...]


@dataclass(frozen=True)
class TaskFamily:
    """Some tasks that belong together; other packages add theirs as ``mambabench.tasks``.

    `rows()` returns the lines of ``tasks list``. `prepare(name, data, to)` writes the task
    directory `to`/`name` from the corpus below `data`; `prepares` are the names that it takes.
    """

    name: str
    rows: Callable[[], Iterable[TaskRow]]
    prepares: tuple[str, ...] = ()
    prepare: Callable[[str, Path, Path], Prepared] | None = None
