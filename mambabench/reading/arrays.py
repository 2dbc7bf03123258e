"""Read .npy and .npz files: empty, cut off, of another type or shape, or no array at all."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.errors import DataError, MambabenchError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["UNREADABLE", "read_array", "read_arrays"]

# what numpy raises for a bad file; EOFError, of an empty one, means Ctrl-C to a command line
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    SyntaxError,
    MemoryError,
    OverflowError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_array(
    path: Path,
    *,
    remedy: str,
    error: type[MambabenchError] = DataError,
    mapped: bool = False,
) -> npt.NDArray[Any]:
    """Return the array of a .npy file; `error` names file, cause and `remedy` else.

    `mapped` maps it into memory instead of reading it. Arrays of objects are refused: nothing in a
    file is run.
    """
    import numpy as np

    try:
        value = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except UNREADABLE as wrong:
        raise error(f"{path} {_reason(path, wrong)}; {remedy}") from wrong
    if not isinstance(value, np.ndarray):
        value.close()
        raise error(f"{path} is an archive of arrays (.npz), not one array; {remedy}")
    if value.dtype.kind not in "biuf":
        raise error(f"{path} holds values of type {value.dtype}, not numbers; {remedy}")
    return value


def read_arrays(
    path: Path,
    names: Iterable[str] = (),
    *,
    remedy: str,
    error: type[MambabenchError] = DataError,
) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a .npz file by name; `error` also where one of `names` is absent."""
    import numpy as np

    try:
        with path.open("rb") as stream:  # numpy leaves it open where the archive is cut off
            file = np.load(stream, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise error(f"{path} is one array, not an archive of arrays (.npz); {remedy}")
            with file:
                found = {name: file[name] for name in file.files}
    except UNREADABLE as wrong:
        raise error(f"{path} {_reason(path, wrong)}; {remedy}") from wrong
    absent = [name for name in names if name not in found]
    if absent:
        raise error(f"{path} has no array named {', '.join(absent)}; {remedy}")
    return found


def _reason(path: Path, wrong: Exception) -> str:
    if isinstance(wrong, FileNotFoundError):
        return "is missing"
    if isinstance(wrong, OSError) and wrong.strerror:
        return f"cannot be read ({wrong.strerror})"
    try:
        size = path.stat().st_size
    except OSError:
        size = -1
    if size == 0:
        return "is empty (0 bytes)"
    if isinstance(wrong, ValueError) and re.search("pickle|Python objects", str(wrong)):
        return "is no array of numbers, or a damaged one"
    return f"is damaged or cut off ({type(wrong).__name__}: {wrong})"
