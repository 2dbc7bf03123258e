"""A task in HEAR's on-disk layout: metadata, label vocabulary and the clips of every split.

Source of the layout: hear-preprocess as published (HEAR 2021), documented in docs/tasks.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mambabench.benchmarks.kinds import KINDS
from mambabench.reading.audio import find_file

__all__ = [
    "AudioPart",
    "AudioSource",
    "Clip",
    "Defect",
    "Event",
    "Fold",
    "Task",
    "clip_path",
    "folds",
]

EmbeddingType = Literal["scene", "event"]
# what of an encoder is stored for a clip: its scene embedding, the time mean of its frames, or
# the frames themselves
Pooling = Literal["scene", "time_mean", "frames"]
SplitMode = Literal["trainvaltest", "new_split_kfold", "presplit_kfold"]


@dataclass(frozen=True)
class Event:
    """One labelled sound event of a timestamp task; times in milliseconds from the clip's start."""

    label: str
    start_ms: float
    end_ms: float


@dataclass(frozen=True)
class AudioSource:
    """Where a clip's samples lie when the task points into a corpus of the user's own."""

    path: Path  # of the audio file
    start_s: float = 0.0
    duration_s: float | None = None  # None: to the end
    gain_db: float = 0.0
    trim_silence: bool = False  # drop silent blocks of 0.1 s before anything else
    crop_of: str | None = None  # clips with the same value are stored crops of one clip


@dataclass(frozen=True)
class Clip:
    """One clip of a split: its file name and what it is labelled with."""

    name: str
    labels: tuple[str, ...] = ()  # scene tasks
    events: tuple[Event, ...] = ()  # timestamp tasks
    cluster: str | None = None  # what it is not independent in (speaker, recording), where known
    source: AudioSource | None = None  # None: <sample rate>/<split>/<name> in the task directory


@dataclass(frozen=True)
class Task:
    """What is measured: one task directory, read and checked."""

    name: str  # the directory's name: the only reliable id
    directory: Path
    embedding_type: EmbeddingType
    prediction_type: str  # one of `benchmarks.kinds`
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
    pooling: Pooling = "scene"
    layers: Literal["last", "all"] = "last"  # what is stored unless --layers says otherwise
    notes: tuple[str, ...] = ()  # what a reader of the results must know
    limited: str = ""  # which part of the whole task this is; "" where it is all of it

    @property
    def kind(self) -> str:
        """The kind of answer by which a protocol chooses a family: a row of `benchmarks.kinds`.

        It is the prediction type, but "events" where labels are those of a timestamp task.
        """
        own = self.embedding_type == "scene" or KINDS[self.prediction_type].timestamps
        return self.prediction_type if own else "events"


@dataclass(frozen=True)
class Fold:
    """Which splits train, select and test one head."""

    test: str
    valid: str
    train: tuple[str, ...]


@dataclass(frozen=True)
class Defect:
    """One thing wrong with a task directory, and what to do about it."""

    file: str  # relative to the task directory
    problem: str
    remedy: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return f"{self.file}: {self.problem}; {self.remedy}"


def folds(task: Task) -> tuple[Fold, ...]:
    """Return the task's folds in HEAR's order.

    ``trainvaltest`` has one. With k folds, sorted by name, fold i tests on i, selects on i + 1
    (modulo k) and trains on the others in sorted order (hear-eval-kit, data splits).
    """
    if task.split_mode == "trainvaltest":
        return (Fold("test", "valid", ("train",)),)
    names = sorted(task.splits)
    result = []
    for i, test in enumerate(names):
        valid = names[(i + 1) % len(names)]
        result.append(Fold(test, valid, tuple(n for n in names if n not in (test, valid))))
    return tuple(result)


def clip_path(task: Task, sample_rate_hz: int, split: str, name: str) -> Path:
    """Return where the audio of a clip lies: the named file, or the one that stands for it."""
    return find_file(task.directory / str(sample_rate_hz) / split / name)


@dataclass(frozen=True)
class AudioPart:
    """Which part of a file is a clip, and what is done to its samples."""

    start_s: float = 0.0
    duration_s: float | None = None  # None: to the end
    gain_db: float = 0.0
    trim_silence: bool = False
