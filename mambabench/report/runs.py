"""A run and a group of runs: what the report is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mambabench.report.checked import DistrustedFile
from mambabench.store.records import RunRecord

__all__ = ["Flag", "Group", "Run"]


@dataclass(frozen=True)
class Run:
    """One finished (encoder, task, protocol, seed) and where it was read."""

    record: RunRecord
    path: Path  # the record's file, or hear-eval-kit's test.predicted-scores.json
    digest: str  # SHA-256 of that file's bytes (and its defect); ours hold that of the predictions
    has_predictions: bool  # per-clip predictions lie beside it
    source: str  # "mambabench" or "hear-eval-kit"
    pretraining_run: int = 1  # the digit after "_r" in the folder names of SSAM's authors
    flags: tuple[Flag, ...] = ()  # what was found at reading, such as a changed file
    defects: tuple[DistrustedFile, ...] = ()  # why its scores were taken out of `record`


@dataclass(frozen=True, eq=False)
class Group:
    """All seeds of one (encoder, task, protocol), in the order of the seeds."""

    encoder: str  # label shown, unique per identity within one report
    identity: str
    task: str
    protocol: str
    runs: tuple[Run, ...]

    @property
    def metric(self) -> str:
        return self.runs[0].record.metric

    @property
    def higher_is_better(self) -> bool:
        return self.runs[0].record.higher_is_better

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.record.seed for run in self.runs)

    @property
    def restricted(self) -> bool:
        return any(run.record.restricted for run in self.runs)

    @property
    def defects(self) -> tuple[DistrustedFile, ...]:
        """Return what is wrong with the files of this group: no number of it is to be shown."""
        return tuple(defect for run in self.runs for defect in run.defects)


@dataclass(frozen=True)
class Flag:
    """One reservation about a number."""

    code: str  # one of LETTERS
    text: str  # a sentence for people, without the names of clips
    shown: str = ""  # printed behind the letter: a share, such as "12%"
