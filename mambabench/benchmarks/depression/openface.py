"""Facial landmarks of an OpenFace CSV file as LMVD distributes them: one standardised row a second.

Source: the LMVD extraction script of the DepMamba repository, rewritten from its description.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mambabench.errors import DataError
from mambabench.reading.tables import read_table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["COLUMNS", "extract_landmarks"]

COLUMNS = tuple(f"{axis}_{i}" for axis in "xy" for i in range(68))


def extract_landmarks(path: Path, every: int = 30) -> npt.NDArray[np.float64]:
    """Return [rows, 136] float64: frames 1, 1 + every, ..., each row with mean 0 and std 1.

    Raises DataError where a column is missing or no frame remains.
    """
    import numpy as np

    rows = [
        row
        for row in read_table(path, ("frame", *COLUMNS))
        if (row.whole("frame") - 1) % every == 0
    ]
    if not rows:
        raise DataError(f"{path}: no frame number is 1, {1 + every}, {1 + 2 * every}, ...")
    values = np.array([[row.number(column) for column in COLUMNS] for row in rows])
    centred = values - values.mean(axis=1, keepdims=True)
    spread = values.std(axis=1, keepdims=True)
    # a row without any spread stays zero instead of becoming NaN
    return np.asarray(centred / np.where(spread == 0, 1, spread))
