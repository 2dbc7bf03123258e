"""From a stored log-mel to what SSAM's step sees: standardised by clip, 200 frames of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.errors import DataError

__all__ = ["cut", "n_starts", "standardised"]

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
            raise DataError(
                f"clip {name} has {n} frames, fewer than {required}: the published loader repeats "
                "it along the mel axis and its batch fails; leave it out, or use mode sound"
            )
        return np.tile(x, (1, repeats))
    first = (n - required) // 2 if start == "centre" else int(start or 0)
    return x[first : first + required]
