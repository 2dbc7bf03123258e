"""Rows of a task that is not embedded yet, made from a sample of its clips that is.

How long a head trains follows from how hard its task is for the encoder, so rows must be told apart
as easily as the encoder's own. Clips of the sample keep their rows. A row of another clip lies
between two rows of the sample that have its labels, of its own split where the split has some: what
is learned from one split must not be known in the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.task import Clip
from mambabench.errors import MambabenchError
from mambabench.probe.data import TaskRows
from mambabench.store.embeddings import EmbeddingSet, StoredTask
from mambabench.store.estimate import PlannedTask

__all__ = ["MadeRows", "pools_of", "runs_of"]

Floats = npt.NDArray[np.float32]
RowLabels = npt.NDArray[np.uint8]  # [n_rows, n_labels]
Pools = dict[bytes, Floats]  # labels of a row -> rows of the sample that have exactly these


def runs_of(labels: RowLabels) -> Iterator[tuple[int, int]]:
    """Yield start and stop of the runs of rows whose labels are the same."""
    changes = np.flatnonzero((labels[1:] != labels[:-1]).any(axis=1)) + 1
    yield from pairwise([0, *changes.tolist(), len(labels)])


def pools_of(clips: Sequence[tuple[Floats, RowLabels]]) -> Pools:
    """Return the rows of clips by their labels."""
    found: dict[bytes, list[Floats]] = {}
    for rows, labels in clips:
        for start, stop in runs_of(labels):
            found.setdefault(labels[start].tobytes(), []).append(rows[start:stop])
    return {key: np.concatenate(parts) for key, parts in found.items()}


class MadeRows(TaskRows):
    """The rows of a planned task: those of its sample, and others like them."""

    def __init__(self, stored: StoredTask, planned: PlannedTask, kit: bool) -> None:
        if stored.task.prediction_type not in ("multiclass", "multilabel") or not planned.sample:
            raise MambabenchError(
                "not known before the embeddings are there: extract, then `probe --dry-run`"
            )
        super().__init__(stored, kit=kit)
        self._planned = planned
        self._rng = np.random.default_rng(0)
        self._where = {label: i for i, label in enumerate(self.task.labels)}
        sample = {
            split: [
                (planned.sample[name], self._labels(clip, len(planned.sample[name])))
                for clip in clips
                if (name := f"{split}/{clip.name}") in planned.sample
            ]
            for split, clips in self.task.clips.items()
        }
        self._everywhere = pools_of([clip for clips in sample.values() for clip in clips])
        self._pools = {split: pools_of(clips) for split, clips in sample.items()}

    def _labels(self, clip: Clip, n_rows: int) -> RowLabels:
        found = np.zeros((n_rows, len(self._where)), np.uint8)
        if not self._planned.frames_per_s:
            found[:, [self._where[label] for label in clip.labels]] = 1
            return found
        times = self._times_ms(n_rows)
        for event in clip.events:
            inside = (event.start_ms <= times) & (times < event.end_ms)
            found[inside, self._where[event.label]] = 1
        return found

    def _times_ms(self, n_rows: int) -> Floats:
        return np.asarray(1000 * (np.arange(n_rows) + 0.5) / self._planned.frames_per_s, np.float32)

    def _embeddings(self, split: str) -> EmbeddingSet:
        clips = self.task.clips[split]
        frames = self._planned.frames_per_s > 0
        lengths = _lengths_s(self._planned, split) if frames else {}
        parts = []
        for clip in clips:
            rows = self._planned.sample.get(f"{split}/{clip.name}")
            if rows is None:
                n = int(lengths[clip.name] * self._planned.frames_per_s) if frames else 1
                labels = self._labels(clip, max(1, n))
                rows = np.concatenate(
                    [self._drawn(split, labels[a], b - a) for a, b in runs_of(labels)]
                )
            parts.append(rows)
        return EmbeddingSet(
            split,
            tuple(clip.name for clip in clips),
            np.concatenate(parts)[:, None],
            np.cumsum([0, *map(len, parts)]),
            np.concatenate([self._times_ms(len(part)) for part in parts]) if frames else None,
        )

    def _drawn(self, split: str, labels: RowLabels, n: int) -> Floats:
        """Return `n` rows that follow one another and have these labels, [n, dim]."""
        pool = self._pool(split, labels.tobytes())
        near, far = ((self._rng.integers(len(pool)) + np.arange(n)) % len(pool) for _ in range(2))
        weight = np.float32(self._rng.uniform(0, 0.5))
        return np.asarray(pool[near] + weight * (pool[far] - pool[near]), np.float32)

    def _pool(self, split: str, key: bytes) -> Floats:
        """Return the rows to draw from; labels that the sample lacks have a place of their own."""
        if key in self._pools[split]:
            return self._pools[split][key]
        if key not in self._everywhere:
            known = list(self._everywhere.values())
            rows, one, other = (known[i] for i in self._rng.integers(len(known), size=3))
            self._everywhere[key] = rows + (one.mean(axis=0) - other.mean(axis=0))
        return self._everywhere[key]


def _lengths_s(planned: PlannedTask, split: str) -> Mapping[str, float]:
    return {
        clip.name: clip.n_frames / shard.rate_hz
        for shard in planned.plan.shards
        if shard.split == split
        for clip in shard.clips
    }
