"""What a check of an output folder can find."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["KINDS", "Finding", "is_temporary"]

# kind -> what it means
KINDS = {
    "damaged": "its bytes are not what was written, or it contradicts what lies beside it",
    "stale": "it follows from something that has changed since",
    "leftover": "an interrupted command left it; nothing reads it",
    "stray": "nothing here writes such a file",
}


@dataclass(frozen=True)
class Finding:
    """One defect, and what to do about it."""

    path: Path
    kind: str  # of KINDS
    problem: str
    remedy: str
    move: tuple[Path, ...]  # what `fix` moves aside, so that the same commands make it again


def is_temporary(path: Path) -> bool:
    """Tell the temporary files of atomic writes, which an interrupted command leaves."""
    return path.name.startswith(".") and path.name.endswith(".tmp")
