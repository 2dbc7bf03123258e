"""What every family of tasks hands out: its rows, and what preparing a corpus wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Prepared", "TaskRow"]


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


@dataclass(frozen=True)
class Prepared:
    """What `prepare` wrote."""

    directory: Path
    n_clips: Mapping[str, int]  # split -> clips, stored crops counted
    notes: tuple[str, ...]
