"""Write files so that a reader sees the whole new file or the old one, and hash them."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from mambabench.reading.json_files import read_json_value

__all__ = [
    "atomic_write",
    "canonical_json",
    "read_json",
    "remove_unfinished",
    "sha256_bytes",
    "sha256_file",
    "toml_text",
    "write_bytes",
    "write_json",
]


def atomic_write(path: Path, write: Callable[[BinaryIO], None], *, durable: bool = True) -> None:
    """Create or replace `path` with what `write` puts into the binary file that it is given.

    Temporary file in the same folder, fsync, rename; on any error the temporary file is removed and
    `path` is left as it was. Without `durable` there is no fsync: for what is checked when read and
    can be computed again. Parent folders are created. Raises OSError as the system does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
    _unfinished.add(temporary)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        _unfinished.discard(temporary)
        raise
    _unfinished.discard(temporary)


_unfinished: set[Path] = set()  # temporary files of this process


def remove_unfinished() -> None:
    """Remove the temporary files of writes that this process will not finish: threads that were in
    the middle of them end with it."""
    for temporary in list(_unfinished):
        with suppress(OSError):
            temporary.unlink()


def canonical_json(value: object) -> bytes:
    """Return JSON bytes with sorted keys, two-space indent and no NaN (ValueError): equal values,
    equal bytes."""
    return (
        json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    ).encode()


def toml_text(document: Mapping[str, Any]) -> str:
    """Return a TOML document of strings, numbers, truth values, their lists, and tables of those.

    Plain keys come before the tables, as TOML wants them; other values are a TypeError.
    """
    plain = {key: value for key, value in document.items() if not isinstance(value, Mapping)}
    lines = [f"{_toml_key(key)} = {_toml_value(value)}" for key, value in plain.items()]
    for name, table in document.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{_toml_key(name)}]"]
            lines += [f"{_toml_key(key)} = {_toml_value(value)}" for key, value in table.items()]
    return "\n".join(lines).lstrip("\n") + "\n"


def _toml_key(key: str) -> str:
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if bare else _toml_value(key)


def _toml_value(value: object) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(part) for part in value) + "]"
    if isinstance(value, str):
        # a JSON string is a TOML string, but for DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    raise TypeError(f"TOML has no {type(value).__name__}")


def write_json(path: Path, value: object) -> None:
    """Write `value` to `path` atomically as canonical JSON."""
    write_bytes(path, canonical_json(value))


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write `data` to `path` as `atomic_write` does."""

    def write(file: BinaryIO) -> None:
        file.write(data)

    atomic_write(path, write, durable=durable)


def read_json(path: Path) -> Any:
    """Return the parsed JSON of `path`, in any Unicode encoding; ValueError or OSError else."""
    return read_json_value(path)


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of the file's bytes as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
