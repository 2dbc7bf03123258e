"""What a stage would take for one encoder on one task: the rows of a dry run."""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mambabench.store.notebook import html_table
from mambabench.store.plan import TaskPlan

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Estimate", "PlannedTask", "estimates_html", "peak_bytes"]


@dataclass(frozen=True)
class PlannedTask:
    """A task as it would be stored, for the stage that follows."""

    plan: TaskPlan
    frames_per_s: float  # of the encoder; 0 where the task keeps no frames
    # "<split>/<clip>" -> rows [n_rows, n_layers * dim] of some of its clips
    sample: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict, repr=False)

    @property
    def n_rows(self) -> float:
        """Rows of all splits: clips, or frames."""
        if self.frames_per_s:
            return self.plan.duration_s * self.frames_per_s
        return sum(len(shard.clips) for shard in self.plan.shards)


@dataclass(frozen=True)
class Estimate:
    """One stage of one encoder on one task, from a sample that was measured now."""

    stage: str  # "extract" or "probe"
    encoder: str
    task: str
    n: int  # clips, or units: what is still to be done
    seconds: float | None  # of wall time with this many workers; None: not known, see `note`
    disk_bytes: int
    memory_bytes: int  # of all workers at once
    note: str = ""


def estimates_html(rows: Sequence[Estimate]) -> str:
    """Return the rows of a dry run as a notebook shows them."""
    cells = [
        (
            *(row.stage, row.encoder, row.task, row.n),
            "-" if row.seconds is None else f"{row.seconds:.0f}",
            f"{row.disk_bytes / 1e9:.2g}",
            f"{row.memory_bytes / 1e9:.2g}",
            row.note,
        )
        for row in rows
    ]
    headings = ("stage", "encoder", "task", "clips or units", "s", "GB disk", "GB memory", "note")
    return html_table("dry run: nothing was stored", headings, cells)


def peak_bytes() -> int:
    """Return the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
