"""The rows of one stored split beside the task's clips, as SUPERB's heads take them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.kinds.kind import LENGTHS
from mambabench.benchmarks.task import Clip
from mambabench.errors import DataError, ProtocolError
from mambabench.store.embeddings import EmbeddingSet, StoredTask
from mambabench.store.open import read_embeddings

__all__ = ["SAMPLES_PER_MS", "Frames", "Split", "clip_arrays", "relation_rows"]

SAMPLES_PER_MS = 16  # SUPERB counts samples at 16 kHz
Frames = npt.NDArray[np.floating]  # of one clip: float16 or float32 [n_frames, n_layers, dim]


class Split:
    """One stored split and its clips, in the store's order."""

    def __init__(self, stored: StoredTask, split: str) -> None:
        self.stored, self.split = stored, split
        self.embeddings: EmbeddingSet = read_embeddings(stored, split)
        known = {clip.name: clip for clip in stored.task.clips[split]}
        self.clips: tuple[Clip, ...] = tuple(known[n] for n in self.embeddings.clip_names)
        if not self.clips:
            raise DataError(
                f"task {stored.task.name}: split {split!r} has no embedded clip; extract it again "
                f"or check {split}.json"
            )

    def pooled(self) -> npt.NDArray[np.float32]:
        """Return time means [n_clips, n_layers, dim]."""
        return np.array(self.embeddings.embeddings, dtype=np.float32)

    @cached_property
    def n_samples(self) -> tuple[int, ...] | None:
        """Samples of each clip at 16 kHz; None where the task does not say."""
        path = self.stored.task.directory / LENGTHS
        if not path.is_file():
            return None
        known = json.loads(path.read_text(encoding="utf-8"))
        try:
            return tuple(int(known[f"{self.split}/{clip.name}"]) for clip in self.clips)
        except KeyError as error:
            raise DataError(
                f"{path}: has no length of {error}; prepare the task and extract it again"
            ) from error

    def samples(self) -> tuple[int, ...]:
        """Return the samples of each clip at 16 kHz; from its frames where nothing is known."""
        if self.n_samples is not None:
            return self.n_samples
        lengths = np.diff(self.embeddings.offsets)
        return tuple(round(float(n) * self.hop_ms * SAMPLES_PER_MS) for n in lengths)

    def frames(self) -> list[Frames]:
        """Return [n_frames, n_layers, dim] of each clip, still memory-mapped.

        Where the clips' lengths are known, a clip has at most round(samples / stride) frames
        (halves to even), as s3prl's featurizer trims it.
        """
        offsets, rows = self.embeddings.offsets, self.embeddings.embeddings
        found: list[Frames] = [rows[offsets[i] : offsets[i + 1]] for i in range(len(self.clips))]
        if self.n_samples is None:
            return found
        stride = self.hop_ms * SAMPLES_PER_MS
        return [
            clip[: max(1, round(n / stride))] for clip, n in zip(found, self.n_samples, strict=True)
        ]

    @cached_property
    def hop_ms(self) -> float:
        """The median distance of neighbouring frames over the split's first clips."""
        times = self.embeddings.timestamps_ms
        if times is None:
            raise ProtocolError(
                f"task {self.stored.task.name}: its heads need stored frames with timestamps; "
                "extract the task again"
            )
        for i in range(len(self.clips)):
            steps = np.diff(times[self.embeddings.offsets[i] : self.embeddings.offsets[i + 1]])
            if len(steps):
                return float(np.median(steps))
        raise ProtocolError(
            f"encoder {self.stored.encoder}, task {self.stored.task.name}: no clip of "
            f"{self.split!r} has two frames, so there is no sequence to learn from"
        )

    def groups(self) -> npt.NDArray[np.int64] | None:
        """Number the clips that stored crops belong to; None where nothing is cropped."""
        origins = [
            c.source.crop_of if c.source and c.source.crop_of else c.name for c in self.clips
        ]
        if len(set(origins)) == len(origins):
            return None
        numbers = {name: i for i, name in enumerate(dict.fromkeys(origins))}
        return np.array([numbers[name] for name in origins], np.int64)


def clip_arrays(clips: Sequence[Clip]) -> dict[str, npt.NDArray[Any]]:
    """Return the names and clusters of clips, as a predictions file holds them."""
    return {
        "clip": np.array([clip.name for clip in clips]),
        "cluster": np.array([clip.cluster or "" for clip in clips]),
    }


def relation_rows(stored: StoredTask, name: str) -> Iterator[dict[str, str]]:
    """Yield the rows of a relation file that the store keeps; DataError where it is missing."""
    path = stored.task.directory / name
    if not path.is_file():
        raise DataError(f"{path}: missing; prepare the task and extract it again")
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)
