"""Rows that heads see: one type per split role, so that what selects cannot take test rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.metrics.events import Events

__all__ = ["SplitRows", "TestRows", "TrainingRows", "ValidationRows"]


@dataclass(frozen=True)
class SplitRows:
    """Embeddings and targets of some clips. Scene tasks have a row per clip, timestamp tasks one
    per frame, clip i owning rows ``offsets[i]:offsets[i + 1]``."""

    clip_names: tuple[str, ...]
    clusters: tuple[str, ...]  # "" where unknown
    embeddings: npt.NDArray[np.float32]  # [n_rows, dim]
    targets: npt.NDArray[np.int64] | npt.NDArray[np.uint8]  # [n_rows] or [n_rows, n_labels]
    offsets: npt.NDArray[np.int64]  # [n_clips + 1]
    timestamps_ms: npt.NDArray[np.float32] | None = None  # [n_rows], timestamp tasks
    events: Events | None = None  # of the clips, timestamp tasks


class TrainingRows(SplitRows):
    """Rows that fit a head."""


class ValidationRows(SplitRows):
    """Rows that stop a fit and choose among fits."""


class TestRows(SplitRows):
    """Rows that score the chosen head, and nothing else."""

    __test__ = False  # not a test class
