"""What a family gives the probe: trials that fit heads, and the scoring of the chosen one."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from mambabench.files import atomic_write
from mambabench.probe.fitted import FoldOutcome

__all__ = [
    "FoldPlan",
    "Running",
    "TrainedTrial",
    "Trial",
    "load_trained",
    "save_trained",
    "tensors_sha256",
]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TrainedTrial:
    """What a trial came to: the head at its best evaluation."""

    value: float  # of the selection's metric on validation data; NaN where nothing is selected
    step: int  # of that evaluation
    arrays: dict[str, Array]  # the head's tensors by name, and what else scoring needs


@dataclass(frozen=True)
class Running:
    """What a trial is told by the run that it is part of."""

    device: str = "cpu"
    stop: threading.Event | None = None
    snapshot: Path | None = None  # where a long trial keeps its state; None: nowhere


@dataclass(frozen=True)
class Trial:
    """One fit: reads training and validation data, never test data."""

    name: str  # unique within its fold
    run: Callable[[Running], TrainedTrial]
    cost: float = 0.0  # the dearest start first


class FoldPlan(Protocol):
    """The trials of one fold, and what makes a score of them."""

    @property
    def trials(self) -> Sequence[Trial]:
        """Return the fits; empty where a family trains nothing."""

    def finish(self, trained: Sequence[TrainedTrial], running: Running) -> FoldOutcome:
        """Choose among the trained heads and score the chosen one on test data."""


def load_trained(path: Path) -> TrainedTrial | None:
    """Return a finished trial, or None; an unreadable file counts as not there."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        value, step = arrays.pop("value_and_step")
    except (OSError, ValueError, EOFError, KeyError):
        return None
    return TrainedTrial(float(value), int(step), arrays)


def save_trained(path: Path, trained: TrainedTrial) -> None:
    """Write a finished trial atomically."""
    numbers = np.array([trained.value, trained.step], np.float64)
    arrays: Mapping[str, Array] = {"value_and_step": numbers, **trained.arrays}
    atomic_write(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def tensors_sha256(tensors: Sequence[torch.Tensor]) -> str:
    """Return the hash of the tensors' bytes, one after another."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
