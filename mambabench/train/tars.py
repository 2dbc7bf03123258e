"""Tars of log-mels in the webdataset form that SSAM's trainer reads: index, read, write.

Consecutive members with one key are a sample: ``KEY.data.pyd`` holds a .npy of float32 [frames,
bands], not normalised, and ``KEY.target.pyd`` a .npy of class ids. The key is the base name up to
its first dot. Nothing in a file is run: arrays with pickled objects are refused.
"""

from __future__ import annotations

import ast
import io
import struct
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.errors import DataError
from mambabench.files import atomic_write

__all__ = [
    "Record",
    "count_frames",
    "find_tars",
    "index_tar",
    "read_array",
    "read_labels",
    "write_tar",
]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Record:
    """One sample: where its arrays lie in which tar."""

    key: str
    tar: Path
    offset: int  # of the features' .npy in the file
    size: int
    label_offset: int = 0
    label_size: int = 0  # 0: no labels


def find_tars(folders: Sequence[Path]) -> tuple[Path, ...]:
    """Return the tars of all folders (not of folders below them) or the tars named themselves.

    DataError where a folder is missing or holds none.
    """
    found: list[Path] = []
    for folder in folders:
        if folder.is_file():
            found.append(folder)
            continue
        if not folder.is_dir():
            raise DataError(f"{folder} is neither a folder of tars nor a tar")
        tars = sorted(folder.glob("*.tar"))
        if not tars:
            raise DataError(f"{folder} holds no *.tar; make them with `mambabench data precompute`")
        found += tars
    return tuple(found)


def index_tar(path: Path) -> list[Record]:
    """Return the samples of a tar by reading its headers only.

    DataError names the tar and its last whole sample where the file ends early (a whole tar ends
    in a block of zeros) or a sample has no features.
    """
    records: list[Record] = []
    parts: dict[str, tarfile.TarInfo] = {}
    key = ""
    end = 0  # of the last member's blocks
    size = path.stat().st_size

    def flush() -> None:
        if not parts:
            return
        data, target = parts.get("data.pyd"), parts.get("target.pyd")
        if data is None:
            raise DataError(f"{path}: sample {key} has no {key}.data.pyd")
        label = (target.offset_data, target.size) if target is not None else (0, 0)
        records.append(Record(key, path, data.offset_data, data.size, *label))
        parts.clear()

    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                end = member.offset_data
                if not member.isfile():
                    continue
                end += -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                name, _, kind = Path(member.name).name.partition(".")
                if member.offset_data + member.size > size:
                    raise DataError(_cut(path, records, f"inside {member.name}"))
                if name != key:
                    flush()
                    key = name
                parts[kind] = member
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{_cut(path, records, 'inside the next header')} ({error})") from error
    with path.open("rb") as file:
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            where = f"inside or right behind sample {key} (no block of zeros ends the archive)"
            raise DataError(_cut(path, records, where))
    flush()
    if not records:
        raise DataError(f"{path} holds no samples")
    return records


def _cut(path: Path, records: Sequence[Record], where: str) -> str:
    last = f"after sample {records[-1].key}" if records else "before the first sample"
    return f"{path} ends early, {last}, {where}; make or fetch this tar again"


_ARRAY = struct.Struct("<H")
_HEAD = 4096  # bytes that hold the header of any .npy of two dimensions


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    """Return a .npy's header and where its values begin; ValueError for other versions than 1."""
    if data[:6] != b"\x93NUMPY" or data[6] != 1:
        raise ValueError("no .npy of version 1")
    end = 10 + _ARRAY.unpack_from(data, 8)[0]
    return ast.literal_eval(data[10:end].decode("latin1")), end


def _parse(data: bytes, what: str) -> Array:
    """Return the array of a .npy; DataError for pickled objects and damage."""
    try:
        if data[:6] == b"\x93NUMPY" and data[6] == 1:  # read the header without a file object
            header, begin = _header(data)
            dtype = np.dtype(header["descr"])
            if not dtype.hasobject:
                flat = np.frombuffer(data, dtype, offset=begin)
                shape = tuple(header["shape"])
                return (
                    flat.reshape(shape[::-1]).T
                    if header["fortran_order"]
                    else (flat.reshape(shape))
                )
        return np.load(io.BytesIO(data), allow_pickle=False)  # type: ignore[no-any-return]
    except (ValueError, EOFError, SyntaxError, KeyError, TypeError) as error:
        raise DataError(f"{what} is no plain array ({error}); pickled objects are not read") from (
            error
        )


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(size)
    if len(data) < size:
        raise DataError(f"{path} ends early: it changed since it was indexed")
    return data


def read_array(record: Record) -> Array:
    """Return the features of a sample [frames, bands] float32; DataError for other shapes."""
    what = f"{record.tar}: {record.key}.data.pyd"
    array = _parse(_read(record.tar, record.offset, record.size), what)
    if array.ndim != 2 or array.dtype.kind != "f" or 0 in array.shape:
        raise DataError(f"{what} is {array.dtype} {list(array.shape)}, not floats [frames, bands]")
    return array.astype(np.float32, copy=False)


def count_frames(record: Record) -> int:
    """Return the frames of a sample, from the header of its .npy where that is a plain one."""
    head = _read(record.tar, record.offset, min(record.size, _HEAD))
    try:
        return int(_header(head)[0]["shape"][0])
    except (ValueError, SyntaxError, LookupError, TypeError, struct.error):
        return len(read_array(record))  # says what is wrong


def read_labels(record: Record) -> Array:
    """Return the class ids of a sample; none where it has no labels."""
    if not record.label_size:
        return np.zeros(0, np.int64)
    what = f"{record.tar}: {record.key}.target.pyd"
    return _parse(_read(record.tar, record.label_offset, record.label_size), what).reshape(-1)


def write_tar(path: Path, samples: Iterable[tuple[str, Array, Array]]) -> int:
    """Write (key, features [frames, bands], class ids) as a tar, whole or not at all; return how
    many. Keys must have no dot: what follows the first one would be read as the kind."""
    n = 0

    def write(file: Any) -> None:
        nonlocal n
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for key, features, labels in samples:
                if "." in key or "/" in key:
                    raise DataError(f"{path}: the key {key!r} holds a dot or a slash")
                for kind, array in (
                    ("data", np.asarray(features, np.float32)),
                    ("target", np.asarray(labels, np.int64)),
                ):
                    buffer = io.BytesIO()
                    np.save(buffer, array, allow_pickle=False)
                    info = tarfile.TarInfo(f"{key}.{kind}.pyd")
                    info.size = buffer.tell()
                    buffer.seek(0)
                    tar.addfile(info, buffer)
                n += 1

    atomic_write(path, write)
    return n
