"""A task in HEAR's on-disk layout: metadata, label vocabulary and the clips of every split.

Source of the layout: hear-preprocess as published (HEAR 2021), documented in docs/file-formats.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Clip", "Event", "Task"]

EmbeddingType = Literal["scene", "event"]
PredictionType = Literal["multiclass", "multilabel"]
SplitMode = Literal["trainvaltest", "new_split_kfold", "presplit_kfold"]


@dataclass(frozen=True)
class Event:
    """One labelled sound event of a timestamp task; times in milliseconds from the clip's start."""

    label: str
    start_ms: float
    end_ms: float


@dataclass(frozen=True)
class Clip:
    """One clip of a split: its file name and what it is labelled with."""

    name: str
    labels: tuple[str, ...] = ()  # scene tasks
    events: tuple[Event, ...] = ()  # timestamp tasks
    cluster: str | None = None  # what it is not independent in (speaker, recording), where known


@dataclass(frozen=True)
class Task:
    """What is measured: one task directory, read and checked."""

    name: str  # the directory's name: the only reliable id
    directory: Path
    embedding_type: EmbeddingType
    prediction_type: PredictionType
    split_mode: SplitMode
    splits: tuple[str, ...]
    sample_duration_s: float | None  # None: clips of different lengths
    evaluation: tuple[str, ...]  # metric names, the first is primary
    labels: tuple[str, ...]  # the vocabulary, by index
    clips: dict[str, tuple[Clip, ...]]  # split -> clips, in the order of the split's json
    sample_rates_hz: tuple[int, ...]  # audio folders present, ascending; may be empty in a store
    use_scoring_for_early_stopping: bool = True
    protocol: str | None = None  # a protocol that the task names itself
    median_filter_ms: tuple[float, ...] | None = None  # event_postprocessing_grid, if given
    min_duration_ms: tuple[float, ...] | None = None
    task_specific_param_grid: tuple[tuple[str, tuple[object, ...]], ...] = ()
    restricted: bool = False  # EULA data: never in results/, a page or an export
