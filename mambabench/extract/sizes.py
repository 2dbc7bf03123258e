"""Say how large stored frames will be before the first clip is encoded, and refuse what is too big.

Frames of all layers are the one thing here that can fill a disk: 50 a second of 13 layers of 768
take 3.6 GB an hour of audio.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mambabench.errors import StoreError
from mambabench.store.plan import TaskPlan

if TYPE_CHECKING:
    from mambabench.models.encoder import LoadedEncoder

__all__ = ["FrameSize", "frame_size", "frames_per_s", "require_room"]

STORED_BYTES = 2  # float16
WORKING_BYTES = 4  # shards are float32 until a task is sealed


@dataclass(frozen=True)
class FrameSize:
    """What the frames of one encoder on one task take."""

    encoder: str
    task: str
    audio_h: float
    n_layers: int
    dim: int
    frames_per_s: float

    @property
    def n_values(self) -> float:
        """Numbers in all."""
        return self.audio_h * 3600 * self.frames_per_s * self.n_layers * self.dim

    @property
    def stored_bytes(self) -> float:
        """Bytes of the sealed store."""
        return self.n_values * STORED_BYTES

    @property
    def needed_bytes(self) -> float:
        """Bytes while the store is sealed: shards and store are there at once."""
        return self.n_values * (STORED_BYTES + WORKING_BYTES)

    def __str__(self) -> str:
        return (
            f"{self.encoder}  {self.task}: {self.audio_h:.3g} h of audio x {self.frames_per_s:.3g} "
            f"frames/s x {self.n_layers} layers x {self.dim}: {_gigabytes(self.stored_bytes)} of "
            f"frames, {_gigabytes(self.needed_bytes)} while it is written"
        )


def _gigabytes(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.3g} GB"


def frames_per_s(encoder: LoadedEncoder) -> float:
    """Return the frames that an encoder gives a second, from two seconds of silence."""
    import torch

    audio = torch.zeros(1, 2 * encoder.sample_rate_hz, device=encoder.device)
    times_ms = encoder.timestamps(audio, None)[1][0].double()
    if len(times_ms) < 2:
        return len(times_ms) / 2
    return float(1000 * (len(times_ms) - 1) / (times_ms[-1] - times_ms[0]))


def frame_size(plan: TaskPlan, rate: float) -> FrameSize | None:
    """Return what a plan's frames take at `rate` frames a second; None where it keeps none."""
    spec = plan.spec
    if plan.task.pooling != "frames" or spec.frames == "recompute":
        return None
    n_layers = 1 if spec.layers is None else len(spec.layers)
    hours = plan.duration_s / 3600
    return FrameSize(
        spec.label, plan.task.name, hours, n_layers, spec.timestamp_embedding_size, rate
    )


def require_room(out: Path, sizes: Sequence[FrameSize]) -> None:
    """Raise StoreError, with the remedies, where the disk of `out` has no room for all of it."""
    folder = out
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    # tasks are written one after another: sealed stores add up, shards do not
    needed = sum(size.stored_bytes for size in sizes)
    needed += max((size.needed_bytes - size.stored_bytes for size in sizes), default=0.0)
    if needed <= free:
        return
    largest = max(sizes, key=lambda size: size.needed_bytes)
    raise StoreError(
        f"{folder}: frames need {_gigabytes(needed)}, {_gigabytes(free)} are free (the largest: "
        f"{largest}); keep fewer layers with --layers, such as --layers last or --layers 0,6,12, "
        "store none with --frames recompute (probe then encodes at every step), or give --out on "
        "a larger disk"
    )
