"""The embedding store: memory-mapped arrays per encoder, task and split, sealed by a manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mambabench.benchmarks.task import Task

__all__ = ["EmbeddingSet", "StoredTask", "list_stored_tasks", "read_embeddings"]


@dataclass(frozen=True)
class EmbeddingSet:
    """The embeddings of one split, in the order of the split's json.

    Scene tasks have one row per clip; timestamp tasks one row per frame, clip i owning the rows
    ``offsets[i]:offsets[i + 1]``.
    """

    split: str
    clip_names: tuple[str, ...]
    embeddings: npt.NDArray[np.float32]  # [n_rows, n_layers, dim], memory-mapped
    offsets: npt.NDArray[np.int64]  # [n_clips + 1]
    timestamps_ms: npt.NDArray[np.float32] | None  # [n_rows], timestamp tasks only


@dataclass(frozen=True)
class StoredTask:
    """One encoder's embeddings of one task, as far as its manifest says."""

    directory: Path  # OUT/embeddings/<encoder>/<task>
    encoder: str  # the encoder's label
    encoder_identity: str  # 64 hex digits
    task: Task  # read from the store's own copy of metadata and labels: needs no audio
    layers: tuple[int, ...] | None  # None: the encoder's own output
    missing: dict[str, str]  # "<split>/<clip>" -> reason, for clips that could not be embedded


def list_stored_tasks(out: Path) -> tuple[StoredTask, ...]:
    """Return every sealed (encoder, task) under `out`, sorted by encoder and task."""
    raise NotImplementedError


def read_embeddings(stored: StoredTask, split: str) -> EmbeddingSet:
    """Open one sealed split, memory-mapped."""
    raise NotImplementedError
