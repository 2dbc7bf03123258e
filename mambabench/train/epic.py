"""EPIC-SOUNDS as AuM's loader reads it: windows of long recordings, and its augmentation."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from mambabench.errors import DataError
from mambabench.models.encoders.frontends import EpicLogMel

__all__ = [
    "RATE_HZ",
    "EpicDraws",
    "EpicStream",
    "Segment",
    "augment",
    "choose_window",
    "mask_twice",
    "read_segments",
    "spectrogram",
    "time_warp",
    "to_sample",
]

Array = npt.NDArray[Any]
RATE_HZ = 24000
WINDOW = 240_000  # samples: ten seconds


@dataclass(frozen=True)
class Segment:
    """One labelled stretch of a recording."""

    video: str
    first: int  # sample
    end: int
    label: int
    name: str = ""


class EpicDraws(Protocol):
    """The random numbers of a window and its augmentation, in the order of the calls."""

    def uniform(self, low: float, high: float) -> float:
        """Return a number in [low, high]."""

    def whole(self, low: int, high: int) -> int:
        """Return a whole number from low up to, not including, high."""

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Return normal numbers, float32."""


@dataclass
class EpicStream:
    """Draws of one random stream."""

    rng: np.random.Generator

    def uniform(self, low: float, high: float) -> float:
        """See EpicDraws."""
        return float(self.rng.uniform(low, high))

    def whole(self, low: int, high: int) -> int:
        """See EpicDraws."""
        return int(self.rng.integers(low, high))

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        """See EpicDraws."""
        return torch.from_numpy(self.rng.standard_normal(shape).astype(np.float32))


_STAMP = re.compile(r"(\d+):(\d{2}):(\d{2})(?:\.(\d+))?$")


def to_sample(stamp: str, rate: int = RATE_HZ) -> int:
    """Return the sample of "HH:MM:SS.mmm"; the digits after the dot count milliseconds, as the
    authors read them (".5" is 5 ms)."""
    found = _STAMP.match(stamp)
    if found is None:
        raise DataError(f"time stamp {stamp!r} is not HH:MM:SS.mmm")
    hours, minutes, seconds, milli = (int(part or 0) for part in found.groups())
    return int((hours * 3600 + minutes * 60 + seconds + milli / 1000) * rate)


def read_segments(path: Path) -> list[Segment]:
    """Read a CSV with video_id, start_timestamp, stop_timestamp, class_id (and annotation_id).

    The corpus's pickled tables are refused: unpickling runs code. DataError names file and line.
    """
    if path.suffix in (".pkl", ".pickle"):
        raise DataError(
            f"{path} is a pickle, which can run code when read; convert it once where you trust "
            f"it: pandas.read_pickle({path.name!r}).to_csv({path.stem + '.csv'!r})"
        )
    needed = ("video_id", "start_timestamp", "stop_timestamp", "class_id")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error
    segments = []
    for number, row in enumerate(rows, start=2):
        missing = [column for column in needed if not row.get(column)]
        if missing:
            raise DataError(f"{path}:{number}: {', '.join(missing)} missing")
        first, end = to_sample(row["start_timestamp"]), to_sample(row["stop_timestamp"])
        if end <= first:
            raise DataError(f"{path}:{number}: stops at or before its start")
        name = row.get("annotation_id") or f"{row['video_id']}_{number}"
        segments.append(Segment(row["video_id"], first, end, int(row["class_id"]), name))
    if not segments:
        raise DataError(f"{path} lists no segments")
    return segments


def choose_window(first: int, end: int, draws: EpicDraws | None) -> tuple[int, int]:
    """Return (first, end) of what is heard of a segment: all of it, or ten seconds at random.

    Without `draws` (the sound evaluation) the ten seconds are centred.
    """
    spare = max(end - first - WINDOW, 0)
    start = spare / 2 if draws is None else draws.uniform(0, spare)
    if not spare:
        return first, end
    return int(first + start), int(first + start + WINDOW - 1)


def spectrogram(wave: torch.Tensor, frontend: EpicLogMel, n_frames: int = 1024) -> torch.Tensor:
    """Return the log-mel [n_frames, 128] of a window [n]: cut, or its last frame repeated."""
    features: torch.Tensor = frontend(wave[None])[0]
    if len(features) < n_frames:
        features = torch.cat((features, features[-1:].expand(n_frames - len(features), -1)))
    return features[:n_frames]


def augment(
    spectrum: torch.Tensor,
    draws: EpicDraws,
    *,
    warp: int = 5,
    freqm: int = 48,
    timem: int = 192,
    published_warp: bool = True,
) -> torch.Tensor:
    """Return [bands, frames] warped and masked twice in frequency and twice in time.

    A mask is filled with the mean of what it masks in; a mask of width 0 ends its kind, as the
    authors' returns do.
    """
    out = time_warp(spectrum, warp, draws) if published_warp else spectrum
    return mask_twice(out, draws, freqm, timem)


def mask_twice(spectrum: torch.Tensor, draws: EpicDraws, freqm: int, timem: int) -> torch.Tensor:
    """Return a copy of [bands, frames] with up to two masks in frequency and two in time."""
    out = spectrum.clone()
    for first, end in _masks(out.shape[0], freqm, draws):
        out[first:end] = out.mean()
    for first, end in _masks(out.shape[1], timem, draws):
        out[:, first:end] = out.mean()
    return out


def _masks(size: int, widest: int, draws: EpicDraws) -> Iterator[tuple[int, int]]:
    for _ in range(2 if widest else 0):
        width = draws.whole(0, min(widest, size))
        first = draws.whole(0, size - width)
        if width == 0:
            return
        yield first, draws.whole(first, first + width)


def time_warp(spectrum: torch.Tensor, widest: int, draws: EpicDraws) -> torch.Tensor:
    """Return [bands, frames] shifted in time the way the authors' broken warp does.

    Meant is a spline through one control point that moves up to `widest` frames. The point's place
    is, by mistake, the spectrogram's VALUE at a random frame, and with one point the spline's
    system is singular, solved only because 1e-7 of noise is added: frames move by an affine
    function of place that is nearly arbitrary.
    """
    bands, frames = spectrum.shape
    middle = bands // 2
    point = float(spectrum[middle, draws.whole(widest, frames - widest)])
    distance = draws.whole(-widest, widest)
    target = torch.tensor([float(middle), point + distance])
    moved = target - torch.tensor([float(middle), point])
    weight, linear = _spline(target, moved, draws.normal((1, 3, 3))[0] * 1e-7)
    grid = torch.stack(
        torch.meshgrid(torch.arange(bands), torch.arange(frames), indexing="ij"), dim=-1
    ).reshape(-1, 2)
    places = grid.float()
    # the authors' squared distances: both norms summed over all places
    far = places.square().sum() - 2 * (places @ target) + target.square().sum()
    flow = _radial(far)[:, None] * weight + torch.cat((places, torch.ones(len(places), 1)), 1) @ (
        linear
    )
    return _bilinear(spectrum, places - flow).reshape(bands, frames)


def _radial(squared: torch.Tensor) -> torch.Tensor:
    return 0.5 * squared * squared.clamp_min(1e-10).log()


def _spline(
    target: torch.Tensor, moved: torch.Tensor, noise: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (radial weight [2], affine part [3, 2]) of the spline with one control point."""
    row = torch.cat((target, torch.ones(1)))
    left = torch.zeros(4, 4)
    own = target.square().sum() - 2 * (target @ target) + target.square().sum()
    left[0, 0] = _radial(own)
    left[0, 1:], left[1:, 0], left[1:, 1:] = row, row, noise
    right = torch.zeros(4, 2)
    right[0] = moved
    solved = torch.linalg.solve(left, right)
    return solved[0], solved[1:]


def _bilinear(image: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Read [bands, frames] at places [n, 2], clamped to the edges."""
    corners, shares = [], []
    for axis in range(2):
        highest = image.shape[axis] - 2
        floor = places[:, axis].floor().clamp(0, max(0, highest))
        shares.append((places[:, axis] - floor).clamp(0, 1))
        corners.append(floor.long())
    (y, x), (dy, dx) = corners, shares
    top = image[y, x] + dx * (image[y, x + 1] - image[y, x])
    bottom = image[y + 1, x] + dx * (image[y + 1, x + 1] - image[y + 1, x])
    return top + dy * (bottom - top)
