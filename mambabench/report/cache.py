"""Keep computed numbers below a report's folder where that can be written; do without elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mambabench.files import write_bytes

__all__ = ["keep", "usable_cache"]


def keep(write: Callable[[], None]) -> None:
    """Write to the cache; a full or read-only disk costs the next report time and nothing else."""
    try:
        write()
    except OSError:
        return  # what cannot be kept is computed again


def usable_cache(folder: Path) -> Path:
    """Make the cache's folder and return it; OSError where it cannot be made or written to."""

    folder.mkdir(exist_ok=True)
    trial = folder / "writable"
    write_bytes(trial, b"", durable=False)
    trial.unlink()
    return folder
