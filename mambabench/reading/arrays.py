"""Read .npy and .npz files: empty, cut off, of another type or shape, or no array at all."""

from __future__ import annotations

import io
import math
import re
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mambabench.errors import DataError, MambabenchError

if TYPE_CHECKING:
    import numpy as np
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
    NotImplementedError,  # ways of compression that zipfile does not know
    RuntimeError,  # a member that is encrypted, or says so
    tokenize.TokenError,
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
    wanted: Callable[[str], bool] | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a .npz file by name; `error` also where one of `names` is absent.

    Only arrays whose names are `wanted` are read, if that is given.
    """
    import numpy as np

    try:
        with path.open("rb") as stream:  # numpy leaves it open where the archive is cut off
            begin = stream.read(6)
            if begin == np.lib.format.MAGIC_PREFIX:
                raise error(f"{path} is one array, not an archive of arrays (.npz); {remedy}")
            if begin and not begin.startswith(b"PK"):
                raise ValueError("neither arrays nor pickle")
            stream.seek(0)
            with zipfile.ZipFile(stream) as archive:
                found = {
                    info.filename.removesuffix(".npy"): _member(archive, info)
                    for info in archive.infolist()
                    if wanted is None or wanted(info.filename.removesuffix(".npy"))
                }
    except UNREADABLE as wrong:
        raise error(f"{path} {_reason(path, wrong)}; {remedy}") from wrong
    absent = [name for name in names if name not in found]
    if absent:
        raise error(f"{path} has no array named {', '.join(absent)}; {remedy}")
    return found


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> npt.NDArray[Any]:
    """Return one array of an archive; ValueError where it is none, or one of objects.

    As `numpy.load`, in a third of the time for many small arrays: equal headers are parsed once.
    """
    import numpy as np

    data = bytearray(archive.read(info))  # arrays are to be written to, as numpy's are
    start, kind = _header(data)
    count = math.prod(kind.shape)
    if len(data) - start != count * kind.dtype.itemsize:
        raise ValueError(f"{info.filename} has not the size of its header")
    flat = np.frombuffer(data, kind.dtype, count, start)
    return flat.reshape(kind.shape, order="F" if kind.fortran else "C")


class _NpyHeader(NamedTuple):
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]


def _header(data: bytearray) -> tuple[int, _NpyHeader]:
    """Return where the values of a .npy file begin, and what they are."""
    width = 2 if data[6:7] == b"\x01" else 4  # bytes of the header's length
    start = 8 + width + int.from_bytes(data[8 : 8 + width], "little")
    if bytes(data[:6]) != b"\x93NUMPY" or start > len(data):
        raise ValueError("not a .npy file")
    return start, _kind(bytes(data[:start]))


@lru_cache(maxsize=4096)
def _kind(header: bytes) -> _NpyHeader:
    """Parse a header as numpy does; ValueError for an array of objects."""
    import numpy as np
    from numpy.lib import format as npy

    stream = io.BytesIO(header)
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        array = np.load(io.BytesIO(header), allow_pickle=False)  # its own error
        raise ValueError(f"not a .npy file: {array!r}")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("holds Python objects, which are not read")
    return _NpyHeader(shape, fortran, dtype)


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
