"""What `extract` says: how far it is, and what became of each encoder on each task."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mambabench.engine.units import Crew
from mambabench.errors import EncoderError
from mambabench.store.estimate import Estimate, PlannedTask, estimates_html
from mambabench.store.notebook import html_table

__all__ = ["ExtractProgress", "Extracted", "TaskOutcome"]


@dataclass(frozen=True)
class ExtractProgress:
    """How far a run is."""

    clips: int
    n_clips: int
    audio_s: float
    total_audio_s: float
    elapsed_s: float  # since the first clip was given out
    sizes: tuple[str, ...] = ()  # once, before the first clip: what stored frames will take
    crew: Crew | None = None  # who works, where that is not this machine alone
    n_there: int = 0  # clips of other shards, which an earlier run has encoded


@dataclass(frozen=True)
class TaskOutcome:
    """What became of one encoder on one task."""

    encoder: str  # label
    task: str
    directory: Path
    state: str  # "sealed", "already" (sealed before), "waiting" (for other shards), "incomplete"
    n_clips: int
    missing: dict[str, str]  # "<split>/<clip>" -> reason
    warnings: dict[str, str] = field(default_factory=dict)  # likewise, of clips that are embedded
    # "<split>/<clip>" -> number (from 1) of its shard, for clips whose audio is not what was
    # encoded before; their shards were encoded anew
    changed: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Extracted:
    """What a run of `extract` did."""

    out: Path
    outcomes: tuple[TaskOutcome, ...]
    audio_s: float  # seconds of audio encoded by this run
    elapsed_s: float
    estimates: tuple[Estimate, ...] = ()  # of a dry run, which encodes nothing
    planned: tuple[PlannedTask, ...] = ()  # likewise
    broken: tuple[EncoderError, ...] = ()  # of encoders that failed while others went on

    @property
    def failed(self) -> bool:
        """Say whether an encoder is broken, or a task not sealed because clips are missing."""
        return bool(self.broken) or any(outcome.state == "incomplete" for outcome in self.outcomes)

    def _repr_html_(self) -> str:
        """Show a row per encoder and task in a notebook."""
        if self.estimates:
            return estimates_html(self.estimates)
        rows = [(o.encoder, o.task, o.n_clips, len(o.missing), o.state) for o in self.outcomes]
        said = f"embeddings in {self.out}: {self.audio_s:.0f} s of audio in {self.elapsed_s:.1f} s"
        return html_table(said, ("encoder", "task", "clips", "missing", "state"), rows)
