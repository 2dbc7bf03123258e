"""What a stage would take for one encoder on one task: the rows of a dry run."""

from __future__ import annotations

import resource
from dataclasses import dataclass

from mambabench.store.plan import TaskPlan

__all__ = ["Estimate", "PlannedTask", "peak_bytes"]


@dataclass(frozen=True)
class PlannedTask:
    """A task as it would be stored, for the stage that follows."""

    plan: TaskPlan
    frames_per_s: float  # of the encoder; 0 where the task keeps no frames

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


def peak_bytes() -> int:
    """Return the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
