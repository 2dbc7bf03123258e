"""The rows of a report, and all that it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mambabench.report.checked import DistrustedFile
from mambabench.report.choice import EVERYTHING, Choice
from mambabench.report.runs import Flag, Run
from mambabench.report.statistics.comparison import Comparison
from mambabench.report.statistics.ranks import Rank
from mambabench.report.statistics.versus import Versus

__all__ = ["EncoderCost", "Overall", "PublishedRow", "Row", "Summary"]


@dataclass(frozen=True)
class EncoderCost:
    """What one encoder costs; None where it is not known."""

    encoder: str
    parameters: float | None = None
    gflops: float | None = None  # 10^9 operations for a second of audio
    seconds: float | None = None  # of one worker for a second of audio


@dataclass(frozen=True)
class Row:
    """One encoder on one task under one protocol; None where undefined, with `reason`."""

    encoder: str
    task: str
    metric: str
    higher_is_better: bool
    protocol: str
    n_seeds: int
    n_test: int | None  # distinct test clips over the folds
    mean: float | None  # over seeds of the mean over folds
    std: float | None  # over seeds, ddof 1
    ci95_low: float | None  # Student's t over seeds
    ci95_high: float | None
    boot_low: float | None  # interval of the seed-mean score over clips or clusters
    boot_high: float | None
    reason: str | None
    scores: tuple[float, ...] = ()  # per seed
    seeds: tuple[int, ...] = ()
    n_units: int | None = None  # what the bootstrap drew
    clustered: bool = False
    ties: str = ""  # letters: encoders of this task that share one do not differ
    best: bool = False  # best mean of the task and protocol
    overlaps: bool = False  # the best's interval overlaps another's
    selected_on_test: bool = False  # its checkpoint was chosen by the test score (s3prl's ASV)
    source: str = "mambabench"
    pretraining_run: int = 1
    flags: tuple[Flag, ...] = ()  # what to know of the number; a changed one is never best
    smallest_difference: float | None = None  # that the clips of this task can show
    boot_share: float | None = None  # of the resamples that have a score
    note: str | None = None  # what to know about the intervals


@dataclass(frozen=True)
class Summary:
    """What every format of the report shows."""

    rows: tuple[Row, ...]  # sorted by protocol, task, encoder
    comparisons: tuple[Comparison, ...]
    overall: tuple[Overall, ...]
    published: tuple[PublishedRow, ...]
    baseline: str | None
    runs: Sequence[Run]  # what all of it was computed from; perhaps read when asked for
    versus: tuple[Versus, ...] = ()  # pairs over all tasks
    ranks: tuple[Rank, ...] = ()  # per task, and the mean over all tasks of a protocol
    costs: tuple[EncoderCost, ...] = ()  # of the encoders of which something is known
    warned: tuple[tuple[str, str, tuple[str, ...]], ...] = ()  # encoder, task, what of its clips
    defects: tuple[DistrustedFile, ...] = ()  # of the runs: files that are not trusted
    left_out: tuple[DistrustedFile, ...] = ()  # records of which nothing is known
    beside: tuple[Row, ...] = ()  # scores beside the tasks' own, which count nowhere
    choice: Choice = EVERYTHING  # what of the results it is of
    catalogued: tuple[tuple[str, str], ...] = ()  # encoder -> its name in the catalogue, if any


@dataclass(frozen=True)
class Overall:
    """One encoder's score over all tasks of a protocol, under one normalisation."""

    encoder: str
    protocol: str
    normalisation: str  # "hear-leaderboard", "min-max", each with ", common tasks", or others
    score: float | None
    n_tasks: int
    tasks: tuple[str, ...]
    pool: tuple[str, ...]  # the models that the normalisation rests on
    n_imputed: int  # scores of other models in the pool that were filled in: never one of ours
    reason: str | None


@dataclass(frozen=True)
class PublishedRow:
    """One published score; accuracies and F-scores as fractions, as in our own rows."""

    model: str
    task: str  # the task directory, or the benchmark's own name where it has none
    metric: str
    score: float
    spread: float | None
    spread_kind: str
    n_seeds: int | None
    protocol: str
    citation: str
    location: str
    caution: str
    same_protocol: bool = False  # as some row of ours on this task
