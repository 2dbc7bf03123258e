"""Collect finished results: our own run records and those of hear-eval-kit, as one list of runs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mambabench.errors import MambabenchError, StoreError, nearest_names
from mambabench.report.flags import Flag
from mambabench.store.records import RunRecord, read_record, record_paths

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "Group", "Run", "group_runs", "load_results", "read_runs", "score_rows"]

# The columns of `load_results`, in order: one row per (encoder, task, protocol, seed, fold, metric)
COLUMNS = (
    "encoder",
    "encoder_identity",
    "task",
    "protocol",
    "seed",
    "fold",
    "metric",
    "primary",
    "higher_is_better",
    "score",
    "n_test",
    "n_labels",
    "grid_point",
    "validation_score",
    "best_epoch",
    "n_epochs",
    "head_sha256",
    "layers",
    "restricted",
    "reason",
    "source",
)


_WHICH = ("primary", "all")  # of `load_results`


@dataclass(frozen=True)
class Run:
    """One finished (encoder, task, protocol, seed) and where it was read."""

    record: RunRecord
    path: Path  # the record's file, or hear-eval-kit's test.predicted-scores.json
    digest: str  # SHA-256 of that file's bytes; ours name the hash of the predictions in it
    has_predictions: bool  # per-clip predictions lie beside it
    source: str  # "mambabench" or "hear-eval-kit"
    pretraining_run: int = 1  # the digit after "_r" in the folder names of SSAM's authors
    flags: tuple[Flag, ...] = ()  # what was found at reading, such as a changed file


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


def read_runs(outs: Sequence[Path]) -> tuple[Run, ...]:
    """Return every finished run below the output folders, each once.

    The same run in two folders is kept once if it has the same result and is a StoreError that
    names both files otherwise. A folder that is missing or holds no result is a StoreError.
    """
    from mambabench.report.exchange.hear_eval_kit import read_kit_runs

    seen: dict[tuple[str, str, str, str, int], Run] = {}
    for out in outs:
        if not out.is_dir():
            raise StoreError(f"{out}: no such output folder; give the --out that probe wrote to")
        runs = [_our_run(path) for path in record_paths(out)]
        runs += read_kit_runs(out)
        if not runs:
            raise StoreError(
                f"{out}: holds no run records (probes/) and no results of hear-eval-kit "
                "(test.predicted-scores.json); run `mambabench probe` with this --out first"
            )
        for run in runs:
            record = run.record
            identity = (
                record.encoder,
                record.encoder_identity,
                record.task,
                record.protocol,
                record.seed,
            )
            other = seen.setdefault(identity, run)
            if other is not run and _differ(other, run):
                raise StoreError(
                    f"{other.path} and {run.path} are the same run (encoder {record.encoder}, task "
                    f"{record.task}, protocol {record.protocol}, seed {record.seed}) with different"
                    " results; report one of the two folders, or delete one of the two files"
                )
    return tuple(seen[key] for key in sorted(seen))


def _our_run(path: Path) -> Run:
    return Run(
        record=read_record(path),
        path=path,
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        has_predictions=path.with_suffix(".npz").is_file(),
        source="mambabench",
    )


def _differ(one: Run, other: Run) -> bool:
    return one.digest != other.digest and (
        one.record.score != other.record.score or one.record.folds != other.record.folds
    )


def group_runs(runs: Sequence[Run]) -> tuple[Group, ...]:
    """Group runs by (task, protocol, encoder), sorted; StoreError where seeds disagree on a metric.

    Two encoders of one name and different identities get ``@`` and eight hex digits of theirs;
    hear-eval-kit's results have no identity and get "(hear-eval-kit)".
    """
    identities: dict[str, set[str]] = {}
    for run in runs:
        identities.setdefault(run.record.encoder, set()).add(run.record.encoder_identity)
    groups: dict[tuple[str, str, str, str], list[Run]] = {}
    for run in runs:
        record = run.record
        label = record.encoder
        if len(identities[label]) > 1 and not _names_identity(record):
            digits = record.encoder_identity[:8]
            label = f"{label}@{digits}" if digits else f"{label} (hear-eval-kit)"
        key = (record.task, record.protocol, label, record.encoder_identity)
        groups.setdefault(key, []).append(run)
    return tuple(_group(key, groups[key]) for key in sorted(groups))


def _names_identity(record: RunRecord) -> bool:
    """Whether the label already carries the identity, as that of a checkpoint does."""
    digits = record.encoder_identity[:8]
    return bool(digits) and f"@{digits}" in record.encoder


def _group(key: tuple[str, str, str, str], runs: list[Run]) -> Group:
    task, protocol, label, identity = key
    first = runs[0].record
    for run in runs[1:]:
        record = run.record
        if (record.metric, record.higher_is_better) != (first.metric, first.higher_is_better):
            raise StoreError(
                f"{run.path}: metric is {record.metric!r}, but {runs[0].path} has "
                f"{first.metric!r}; probe this task again with all seeds"
            )
    ordered = tuple(sorted(runs, key=lambda run: run.record.seed))
    return Group(label, identity, task, protocol, ordered)


def load_results(
    out: str | Path | Sequence[str | Path] = "mambabench-out", *, metrics: str = "primary"
) -> pd.DataFrame:
    """Return the stored scores below one or several output folders as a pandas DataFrame.

    One row per encoder, task, protocol, seed and fold: the score of the task's primary metric;
    with `metrics` "all" a row for every metric besides, told apart by the columns `metric` and
    `primary`. The columns are exactly `COLUMNS` (docs/report.md says what each holds); a run
    without a score is one row with its `reason`. MambabenchError for another word than these two.
    Raises StoreError where a folder is missing, empty or contradicts another.
    """
    import pandas as pd

    if metrics not in _WHICH:
        raise MambabenchError(
            f"metrics is {metrics!r}; it is one of {', '.join(_WHICH)}"
            f"{nearest_names(metrics, _WHICH)}"
        )
    outs = [out] if isinstance(out, (str, Path)) else list(out)
    runs = read_runs([Path(folder) for folder in outs])
    rows = [
        row for group in group_runs(runs) for run in group.runs for row in score_rows(group, run)
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    if metrics == "primary":
        frame = frame[frame["primary"].astype(bool)].reset_index(drop=True)
    for column in ("best_epoch", "n_epochs", "n_test"):
        frame[column] = frame[column].astype("Int64")
    for column in ("score", "validation_score"):
        frame[column] = frame[column].astype("float64")
    return frame


def score_rows(group: Group, run: Run) -> list[tuple[object, ...]]:
    """Return the stored scores of one run, a row per fold and metric, in the order of `COLUMNS`."""
    from mambabench.files import canonical_json

    record = run.record
    head = (group.encoder, record.encoder_identity, record.task, record.protocol, record.seed)
    layers = None if record.layers is None else ",".join(map(str, record.layers))
    tail = (layers, record.restricted, record.reason, run.source)
    if not record.folds:
        nothing = (None, record.metric, True, record.higher_is_better, None, None, record.n_labels)
        return [(*head, *nothing, None, None, None, None, None, *tail)]
    rows: list[tuple[object, ...]] = []
    for fold in record.folds:
        point = " ".join(canonical_json(dict(fold.grid_point)).decode().split())
        for metric, score in fold.scores.items():
            primary = metric == record.metric
            better = record.higher_is_better if primary else None
            what = (fold.fold, metric, primary, better, score, fold.n_test, record.n_labels)
            chosen = (
                point,
                fold.validation_score,
                fold.best_epoch,
                fold.n_epochs,
                fold.head_sha256,
            )
            rows.append((*head, *what, *chosen, *tail))
    return rows
