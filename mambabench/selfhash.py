"""JSON files that carry their own hash, and hashes of files that are read once per process."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from pathlib import Path
from typing import Any

from mambabench.files import canonical_json, sha256_bytes, sha256_file, write_bytes

__all__ = [
    "FIELD",
    "HashMismatchError",
    "check_hash",
    "hashed_json",
    "parse_hashed",
    "seen",
    "sha256_of_json",
    "sha256_once",
    "write_hashed_json",
]

FIELD = "own_sha256"  # of the canonical JSON of everything else in the file
_LINE = f'\n  "{FIELD}": '.encode()


class HashMismatchError(ValueError):
    """A file does not have the hash that it states: it was edited or damaged."""


def hashed_json(body: dict[str, Any]) -> bytes:
    """Return canonical JSON of `body` with the field `FIELD`: the hash of the rest."""
    rest = {key: value for key, value in body.items() if key != FIELD}
    return canonical_json({**rest, FIELD: sha256_bytes(canonical_json(rest))})


def write_hashed_json(path: Path, body: dict[str, Any]) -> None:
    """Write `body` and its hash to `path` atomically."""
    write_bytes(path, hashed_json(body))


def parse_hashed(data: bytes) -> dict[str, Any]:
    """Return the object in `data`, its hash among the fields.

    Raises HashMismatchError where a byte differs from what was written, KeyError where there is no
    hash, ValueError where it is no JSON object.
    """
    body = json.loads(data)
    if not isinstance(body, dict):
        raise ValueError("not a JSON object")
    check_hash(data, body)
    return body


def check_hash(data: bytes, body: dict[str, Any]) -> None:
    """Hold the bytes `data` against the hash in `body`, what they say; raises as `parse_hashed`."""
    if FIELD not in body:
        raise KeyError(FIELD)
    if not _holds(data, body) and hashed_json(body) != data:
        raise HashMismatchError("its content does not have the hash that it states")


def _holds(data: bytes, body: dict[str, Any]) -> bool:
    """Whether the bytes are `hashed_json` of the body, as far as that is told cheaply.

    Python indents JSON ten times more slowly than it writes it on one line. The hash is therefore
    that of the bytes without the hash's own line, and order and signs are those of one line. False
    says nothing.
    """
    begin = data.find(_LINE)
    end = data.find(b"\n", begin + 1)
    if begin < 0 or data[end - 1 : end] != b",":
        return False
    hash_of_rest = sha256_bytes(data[:begin] + data[end:])
    if data[begin + len(_LINE) : end] != f'"{hash_of_rest}",'.encode():
        return False
    try:
        line = json.dumps(
            body, sort_keys=True, separators=(",", ": "), ensure_ascii=False, allow_nan=False
        )
    except (ValueError, TypeError):
        return False
    return re.sub(rb"\n *", b"", data) == line.encode()


def seen(path: Path) -> tuple[int, int, int] | None:
    """Return size, mtime in ns and inode of `path`; None where it cannot be looked at.

    Files of equal values are taken for equal: whoever writes a file changes its time, whoever
    replaces it its inode.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


_hashes: dict[tuple[str, tuple[int, int, int]], str] = {}
_lock = threading.Lock()


def sha256_once(path: Path) -> str:
    """Return the hash of a file, read once per process and then known by size, mtime and inode.

    Raises OSError where it cannot be read.
    """
    before = seen(path)
    key = None if before is None else (str(path.absolute()), before)
    with _lock:
        if key is not None and key in _hashes:
            return _hashes[key]
    found = sha256_file(path)
    if key is not None:
        with _lock:
            _hashes[key] = found
    return found


def sha256_of_json(value: object) -> str:
    """Return the hash of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
