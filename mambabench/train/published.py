"""The authors' files: what they are called, what they hold, and how ours become them."""

from __future__ import annotations

import argparse
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mambabench.files import atomic_write, write_bytes
from mambabench.models.weights.torch_files import save_torch

__all__ = [
    "average_states",
    "prefixed",
    "save_pth",
    "save_table",
    "ssam_checkpoint",
    "ssam_saved",
]

StateDict = Mapping[str, torch.Tensor]


def average_states(states: Sequence[StateDict]) -> dict[str, torch.Tensor]:
    """Return the mean of every tensor over `states`, weights equal; whole numbers of the first."""
    first = states[0]
    return {
        key: torch.stack([state[key] for state in states]).mean(dim=0)
        if value.is_floating_point()
        else value.clone()
        for key, value in first.items()
    }


def save_pth(path: Path, content: Any) -> None:
    """Write with torch.save, whole or not at all."""
    atomic_write(path, lambda file: save_torch(content, file))


def ssam_saved(epoch: int, epochs: int) -> bool:
    """Tell whether SSAM keeps the weights after `epoch` (from 0): even ones and the last five."""
    return epoch % 2 == 0 or epoch >= epochs - 5


def ssam_checkpoint(
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None,
    epoch: int,
    arguments: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what SSAM's checkpoint-<epoch>.pth holds; tensors and plain settings only."""
    return {
        "model": model.state_dict(),
        "optimizer": optimiser.state_dict(),
        "epoch": epoch,
        "scaler": {} if scaler is None else scaler.state_dict(),
        "args": argparse.Namespace(**arguments),
    }


def save_table(path: Path, rows: Any) -> None:
    """Write numbers as the authors' numpy.savetxt does: %.18e, commas."""
    buffer = io.BytesIO()
    np.savetxt(buffer, np.atleast_2d(np.asarray(rows, np.float64)), delimiter=",")
    write_bytes(path, buffer.getvalue())


def prefixed(state: StateDict) -> dict[str, torch.Tensor]:
    """Return a state dict under DataParallel's prefix, as SSAMBA's files have it."""
    return {f"module.{key}": value for key, value in state.items()}
