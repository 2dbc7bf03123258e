"""What is known of a checkpoint once it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

__all__ = ["Checkpoint", "WeightsFile"]

FORMAT = "1"
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class WeightsFile:
    """A checkpoint on this machine, described."""

    path: Path
    encoders: tuple[str, ...]  # whose weights these are; several where layouts are equal
    content_sha256: str  # over keys, shapes, dtypes and bytes of the tensors
    n_tensors: int
    n_parameters: int
    wrapper: str  # top-level key of the original file, "" for a bare state dict
    prefix: str  # of the original's keys
    converted: bool  # by this project, its content hash checked


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a checkpoint file under the authors' bare names, and how it was wrapped."""

    state: dict[str, torch.Tensor]  # without wrapper and prefix, in file order
    wrapper: str = ""  # top-level key that held the state dict; "" for a bare one
    prefix: str = ""  # what every key began with
    extra: tuple[str, ...] = ()  # other top-level keys
    metadata: dict[str, str] = field(default_factory=dict)  # of a safetensors file
