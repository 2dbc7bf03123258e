"""Read TOML files: an error with file, line and remedy."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from mambabench.errors import MambabenchError, ProtocolError
from mambabench.reading.text import read_text

__all__ = ["read_toml"]


def read_toml(
    path: Path,
    *,
    remedy: str = "write it as the files in recipes/ are",
    error: type[MambabenchError] = ProtocolError,
) -> dict[str, Any]:
    """Return the document of a TOML file; `error` where it is missing, undecodable or no TOML."""
    text = read_text(path, remedy=remedy, error=error)
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as wrong:
        raise error(f"{path}: {wrong}; {remedy}") from wrong
