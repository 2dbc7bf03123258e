"""What metrics of scene tasks share: targets in either form, and what cannot be scored."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["NAN", "is_undefined", "label_index", "multilabel"]

Array = npt.NDArray[Any]
NAN = float("nan")


def is_undefined(probability: Array) -> bool:
    """Return whether there is nothing to score, or a probability that is NaN: such a head ranks
    worst."""
    return probability.size == 0 or bool(np.isnan(probability).any())


def label_index(target: Array) -> Array:
    """Return the label's index, int [n]; the first positive of multilabel data."""
    return np.asarray(np.argmax(target, axis=1) if target.ndim == 2 else target)


def multilabel(target: Array, n_labels: int) -> npt.NDArray[np.bool_]:
    """Return the target as bool [n, n_labels]."""
    if target.ndim == 2:
        return target.astype(np.bool_)
    result: npt.NDArray[np.bool_] = target[:, None] == np.arange(n_labels)
    return result
