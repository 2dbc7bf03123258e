"""From a stored log-mel to what SSAM's step sees: standardised by clip, 200 frames of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.errors import DataError
from mambabench.train.tars import Record, count_frames

__all__ = ["check_lengths", "cut", "n_starts", "standardised"]

Array = npt.NDArray[Any]


def standardised(features: Array) -> Array:
    """Return [frames, bands] with mean 0 and biased deviation 1 over the whole clip."""
    result: Array = (features - features.mean()) / (features.std() + 1e-8)
    return result


def n_starts(n_frames: int, required: int) -> int:
    """Return from how many starts a crop is drawn; the last window is never drawn, as published."""
    return max(0, n_frames - required)


def cut(
    features: Array, required: int, start: int | str | None, *, published: bool, name: str = ""
) -> Array:
    """Return `required` frames [required, bands] of a clip after standardising all of it.

    start: a frame, "centre", or None for a clip of exactly `required` frames. A shorter clip is
    repeated along time and cut; as published its MEL axis is repeated instead ([frames, k * bands],
    k = required // frames + 1), which no batch can hold: `name` given, that is a DataError.
    """
    x = standardised(features)
    n = len(x)
    if n < required:
        repeats = required // n + 1
        if not published:
            return np.tile(x, (repeats, 1))[:required]
        if name:
            raise _too_short(f"clip {name}", n, required)
        return np.tile(x, (1, repeats))
    first = (n - required) // 2 if start == "centre" else int(start or 0)
    return x[first : first + required]


def check_lengths(records: Iterable[Record], required: int, n_bands: int) -> None:
    """Raise DataError naming tar and sample where one has fewer than `required` frames.

    Only headers are read, and only of samples whose size leaves the question open.
    """
    surely = required * n_bands * 8 + 65536  # bytes: even of float64, behind the longest header
    for record in records:
        if record.size < surely and (n := count_frames(record)) < required:
            raise _too_short(f"{record.tar}: clip {record.key}", n, required)


def _too_short(what: str, n: int, required: int) -> DataError:
    return DataError(
        f"{what} has {n} frames, fewer than {required}: the published loader repeats it along the "
        "mel axis and its batch fails; leave it out, or use mode sound"
    )
