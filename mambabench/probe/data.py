"""Read the rows of a stored task, in the order that a protocol wants, and check them."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.metrics.events import Events, events_of_clips, frame_targets
from mambabench.benchmarks.task import Clip, Fold, Task, folds
from mambabench.errors import DataError
from mambabench.probe.rows import SplitRows, TestRows, TrainingRows, ValidationRows
from mambabench.store.embeddings import EmbeddingSet, StoredTask
from mambabench.store.hear_eval_kit_files import shuffled_order
from mambabench.store.open import content_sha256, read_embeddings

__all__ = ["TaskRows", "task_fingerprint"]

# of a task: no result follows from them, or from what they say besides the clips themselves
_NO_INPUT = ("directory", "sample_rates_hz", "sample_duration_s", "limited")
R = TypeVar("R", bound=SplitRows)


def task_fingerprint(stored: StoredTask) -> str:
    """Return a hash of everything that a probe of `stored` follows from, embeddings included.

    The embeddings count by the hashes of their arrays, which `read_embeddings` checks.
    """
    digest = hashlib.sha256()
    for field in dataclasses.fields(Task):
        if field.name not in _NO_INPUT:
            digest.update(f"{field.name}={getattr(stored.task, field.name)!r}\n".encode())
    digest.update(f"{stored.encoder_identity} {stored.layers} {sorted(stored.missing)}".encode())
    digest.update(content_sha256(stored).encode())
    return digest.hexdigest()


class TaskRows:
    """The rows of one stored task by role; every split is read once and kept.

    With `kit` the clips of a split come in hear-eval-kit's order, else in that of the split's json.
    Safe to use from several threads.
    """

    def __init__(self, stored: StoredTask, *, kit: bool) -> None:
        self.stored = stored
        self.task = stored.task
        self.folds: tuple[Fold, ...] = folds(stored.task)
        if len(self.folds) in (2,) or (len(self.folds) == 1 and not self.folds[0].train):
            raise DataError(
                f"task {self.task.name}: {len(self.folds)} folds leave none to train on; "
                "k-fold tasks need at least 3"
            )
        self._order = shuffled_order(self.task) if kit else None
        self._splits: dict[str, SplitRows] = {}
        self._lock = threading.RLock()

    @property
    def is_event(self) -> bool:
        """Say whether rows are frames."""
        return self.task.embedding_type == "event"

    @property
    def multilabel(self) -> bool:
        """Say whether a row may have any number of labels."""
        return self.is_event or self.task.prediction_type == "multilabel"

    def read(self) -> None:
        """Read every split now."""
        for name in self.task.splits:
            self._split(name)

    def training(self, fold: Fold) -> TrainingRows:
        """Return the rows of the fold's training splits, one after another."""
        rows = _joined([self._split(name) for name in fold.train], TrainingRows)
        if not self.multilabel and len(np.unique(rows.targets)) < 2:
            label = self.task.labels[int(rows.targets[0])]
            raise DataError(
                f"task {self.task.name}: all training clips of fold {fold.test} (splits "
                f"{', '.join(fold.train)}) have the label {label!r}; a head needs two labels at "
                "least: check the split files"
            )
        return rows

    def validation(self, fold: Fold) -> ValidationRows:
        """Return the rows of the fold's validation split."""
        return _joined([self._split(fold.valid)], ValidationRows)

    def test(self, fold: Fold) -> TestRows:
        """Return the rows of the fold's test split."""
        return _joined([self._split(fold.test)], TestRows)

    def _split(self, name: str) -> SplitRows:
        with self._lock:
            if name not in self._splits:
                self._splits[name] = self._read(name)
            return self._splits[name]

    def _embeddings(self, split: str) -> EmbeddingSet:
        return read_embeddings(self.stored, split)

    def _read(self, split: str) -> SplitRows:
        stored = self._embeddings(split)
        clips = self.task.clips[split]
        if self._order is not None:
            clips = tuple(clips[i] for i in self._order[split])
        position = {name: i for i, name in enumerate(stored.clip_names)}
        found = tuple(clip for clip in clips if clip.name in position)
        if not found:
            raise DataError(
                f"task {self.task.name}: split {split!r} has no embedded clip; extract it again "
                f"or check {split}.json"
            )
        chosen = np.array([position[clip.name] for clip in found], np.int64)
        embeddings, offsets, timestamps = _gathered(stored, chosen)
        _check_finite(self.stored, split, embeddings, offsets, found)
        events = events_of_clips(found, self.task.labels) if self.is_event else None
        return SplitRows(
            clip_names=tuple(clip.name for clip in found),
            clusters=tuple(clip.cluster or "" for clip in found),
            embeddings=embeddings,
            targets=self._targets(split, found, events, offsets, timestamps),
            offsets=offsets,
            timestamps_ms=timestamps,
            events=events,
        )

    def _targets(
        self,
        split: str,
        clips: tuple[Clip, ...],
        events: Events | None,
        offsets: npt.NDArray[np.int64],
        timestamps: npt.NDArray[np.float32] | None,
    ) -> npt.NDArray[np.int64] | npt.NDArray[np.uint8]:
        n_labels = len(self.task.labels)
        if events is not None:
            if timestamps is None:
                raise DataError(
                    f"task {self.task.name}: split {split!r} is of a timestamp task, but its "
                    "embeddings have no timestamps; extract it again"
                )
            return frame_targets(events, n_labels, timestamps, offsets)
        index = {label: i for i, label in enumerate(self.task.labels)}
        if self.multilabel:
            target = np.zeros((len(clips), n_labels), np.uint8)
            for i, clip in enumerate(clips):
                target[i, [index[label] for label in clip.labels]] = 1
            return target
        for clip in clips:
            if len(clip.labels) != 1:
                raise DataError(
                    f"task {self.task.name}: {split}/{clip.name} has {len(clip.labels)} labels, a "
                    f"multiclass task needs one: correct {split}.json"
                )
        return np.array([index[clip.labels[0]] for clip in clips], np.int64)


def _gathered(
    stored: EmbeddingSet, clips: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.float32] | None]:
    """Return rows [n_rows, n_layers * dim], offsets and times of `clips` in this order."""
    lengths = np.diff(stored.offsets)[clips]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    flat = stored.embeddings.reshape(len(stored.embeddings), -1)
    if len(clips) == len(stored.clip_names) and bool((np.diff(clips) == 1).all()):
        return flat, offsets, stored.timestamps_ms
    starts = stored.offsets[clips]
    rows = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    times = None if stored.timestamps_ms is None else stored.timestamps_ms[rows]
    return flat[rows], offsets, times


def _check_finite(
    stored: StoredTask,
    split: str,
    embeddings: npt.NDArray[np.float32],
    offsets: npt.NDArray[np.int64],
    clips: tuple[Clip, ...],
) -> None:
    for start in range(0, len(embeddings), 4096):
        finite = np.isfinite(embeddings[start : start + 4096]).all(axis=1)
        if not finite.all():
            row = start + int(np.flatnonzero(~finite)[0])
            clip = clips[int(np.searchsorted(offsets, row, side="right")) - 1]
            raise DataError(
                f"encoder {stored.encoder}, task {stored.task.name}: the embedding of "
                f"{split}/{clip.name} has NaN or infinite values; correct the encoder and extract "
                "again"
            )


def _joined(parts: list[SplitRows], role: type[R]) -> R:
    """Return the rows of `parts` one after another, as rows of a role."""
    if len(parts) == 1:
        part = parts[0]
        return role(**{f.name: getattr(part, f.name) for f in dataclasses.fields(part)})
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    times = [part.timestamps_ms for part in parts if part.timestamps_ms is not None]
    return role(
        clip_names=tuple(name for part in parts for name in part.clip_names),
        clusters=tuple(name for part in parts for name in part.clusters),
        embeddings=np.concatenate([part.embeddings for part in parts]),
        targets=np.concatenate([part.targets for part in parts]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        timestamps_ms=np.concatenate(times) if times else None,
        events=_joined_events([part.events for part in parts if part.events is not None]),
    )


def _joined_events(parts: list[Events]) -> Events | None:
    if not parts:
        return None
    bases = np.cumsum([0, *(part.n_clips for part in parts)])
    return Events(
        int(bases[-1]),
        np.concatenate([part.clip + base for part, base in zip(parts, bases, strict=False)]),
        np.concatenate([part.label for part in parts]),
        np.concatenate([part.start_ms for part in parts]),
        np.concatenate([part.end_ms for part in parts]),
    )
