"""Move what is wrong out of the way, never delete it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from mambabench.errors import StoreError

__all__ = ["SET_ASIDE", "move_aside"]

SET_ASIDE = "set-aside"


def move_aside(out: Path, paths: Sequence[Path]) -> Path:
    """Move files and folders below `out` to ``out/set-aside/<time>/``, under the names they have.

    Returns that folder. Raises StoreError, naming the first, where one cannot be moved.
    """
    target = _new_folder(out)
    for path in paths:
        place = target / path.relative_to(out)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, place)
        except OSError as error:
            raise StoreError(
                f"{path} cannot be moved to {place} ({error.strerror}): move it yourself"
            ) from error
    return target


def _new_folder(out: Path) -> Path:
    stamp = time.strftime("%Y-%m-%dT%H%M%SZ", time.gmtime())
    number = 1
    while True:
        folder = out / SET_ASIDE / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
        except OSError as error:
            raise StoreError(f"{folder} cannot be made ({error.strerror})") from error
