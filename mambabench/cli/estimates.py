"""Print what a dry run found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mambabench.store.estimate import Estimate

__all__ = ["show_estimates", "spoken", "spoken_bytes"]


def show_estimates(rows: Sequence[Estimate]) -> None:
    """Print a line per stage, encoder and task, then what all of it takes."""
    from mambabench.cli.lines import print_wrapped
    from mambabench.cli.tables import print_table

    cells = [
        (row.stage, row.encoder, row.task, f"{row.n:,}", _time(row), *_bytes(row)) for row in rows
    ]
    print_table(("stage", "encoder", "task", "clips, units", "time", "disk", "memory"), cells)
    for row in rows:
        if row.seconds is None:
            print_wrapped(f"{row.stage} of {row.encoder} on {row.task}: {row.note}")
    seconds = sum(row.seconds or 0.0 for row in rows)
    disk = sum(row.disk_bytes for row in rows)
    memory = max((row.memory_bytes for row in rows), default=0)
    print_wrapped(
        f"in all {spoken(seconds)}, {spoken_bytes(disk)} on disk, {spoken_bytes(memory)} of "
        "memory, as measured now on a small sample; nothing was stored"
    )


def _time(row: Estimate) -> str:
    if row.seconds is None:
        return "-"
    return row.note or spoken(row.seconds)


def _bytes(row: Estimate) -> tuple[str, str]:
    return spoken_bytes(row.disk_bytes), spoken_bytes(row.memory_bytes)


def spoken_bytes(n: float) -> str:
    """Return "25 kB", "3.4 MB" or "12 GB"."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if n >= size:
            return f"{n / size:.{0 if n >= 10 * size else 1}f} {unit}"
    return f"{n / 1e3:.0f} kB"


def spoken(seconds: float) -> str:
    """Return "45 s", "12 min" or "3.4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.3g} h"
