"""What a call of `probe` did."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mambabench.store.estimate import Estimate, estimates_html
from mambabench.store.notebook import html_table

__all__ = ["ProbeFailure", "ProbeRun"]


@dataclass(frozen=True)
class ProbeFailure:
    """A unit that could not be done, and why."""

    encoder: str
    task: str
    seed: int
    reason: str


@dataclass(frozen=True)
class ProbeRun:
    """What a call of `probe` did."""

    out: Path
    n_trained: int  # units
    n_present: int  # units whose records were there already
    failures: tuple[ProbeFailure, ...]
    unavailable: tuple[ProbeFailure, ...]  # cells that a protocol cannot fill, with the reason
    estimates: tuple[Estimate, ...] = ()  # of a dry run, which trains a few trials

    @property
    def failed(self) -> bool:
        """Say whether a unit failed, or the protocol could do nothing at all here."""
        nothing = bool(self.unavailable) and not self.n_trained and not self.n_present
        return bool(self.failures) or nothing

    def _repr_html_(self) -> str:
        """Show what was done, and what could not be, in a notebook."""
        if self.estimates:
            return estimates_html(self.estimates)
        named = (("failed", self.failures), ("not available", self.unavailable))
        rows = [(what, f.encoder, f.task, f.seed, f.reason) for what, own in named for f in own]
        said = f"{self.n_trained} units trained, {self.n_present} there already, in {self.out}"
        return html_table(said, ("", "encoder", "task", "seed", "reason"), rows)
