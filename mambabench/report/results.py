"""Collect finished results: our own run records and those of hear-eval-kit, as one list of runs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mambabench.benchmarks.limit import limit_of
from mambabench.errors import MambabenchError, StoreError, nearest_names
from mambabench.files import canonical_json
from mambabench.report.checked import CheckedRecord, DistrustedFile, Verify, check_records
from mambabench.report.choice import Choice
from mambabench.report.exchange.hear_eval_kit import read_kit_runs
from mambabench.report.names import chosen
from mambabench.report.runs import Flag, Group, Run
from mambabench.store.records import RunRecord, record_paths

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "COLUMNS",
    "Collected",
    "DistrustedFile",
    "choose",
    "collect",
    "group_runs",
    "load_results",
    "read_runs",
    "score_frame",
    "score_rows",
    "warn_of",
]

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
class Collected:
    """All runs below some output folders, and the files among them that are not trusted."""

    runs: tuple[Run, ...]
    defects: tuple[
        DistrustedFile, ...
    ]  # of the runs, and of records without a run: nothing is known of it


def read_runs(outs: Sequence[Path]) -> tuple[Run, ...]:
    """Return every finished run below the output folders, each once.

    The same run in two folders is kept once if it has the same result and is a StoreError that
    names both files otherwise. A folder that is missing or holds no result is a StoreError, and so
    are folders of which no file can be read. A run whose record or predictions do not hold has no
    score, but `Run.defects`; a record of which nothing is known is left out with a warning.
    """
    found = collect(outs)
    warn_of(found)
    return found.runs


def warn_of(found: Collected) -> tuple[DistrustedFile, ...]:
    """Warn of the records that are left out because nothing is known of them, and return them."""
    of_runs = {defect for run in found.runs for defect in run.defects}
    left_out = tuple(defect for defect in found.defects if defect not in of_runs)
    for defect in left_out:
        warnings.warn(f"left out: {defect}", stacklevel=3)
    return left_out


def collect(
    outs: Sequence[Path], verify: Verify | None = None, cache: Path | None = None
) -> Collected:
    """Return every finished run below the output folders, and all defects of their files.

    `verify` may know of many records at once that they hold, as in `check_records`. `cache` is the
    folder that remembers what held, by default that of the first output folder's report. Raises
    StoreError as `read_runs` does.
    """

    seen: dict[tuple[str, str, str, str, int], Run] = {}
    defects: list[DistrustedFile] = []
    if cache is None and outs:
        cache = outs[0] / "report" / "cache"
    verified = None if cache is None else cache / "verified.json"
    for out in outs:
        if not out.is_dir():
            raise StoreError(f"{out}: no such output folder; give the --out that probe wrote to")
        checked = check_records(record_paths(out), verified, verify)
        defects += [one.defect for one in checked if one.defect is not None]
        runs = [_our_run(one, one.record) for one in checked if one.record is not None]
        kit, unreadable = read_kit_runs(out)
        runs += kit
        defects += unreadable
        if not runs and not checked and not unreadable:
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
    if not seen:
        raise StoreError("nothing to report: " + "; ".join(map(str, defects)))
    return Collected(tuple(seen[key] for key in sorted(seen)), tuple(defects))


def _our_run(checked: CheckedRecord, record: RunRecord) -> Run:
    return Run(
        record=record,
        path=checked.path,
        digest=checked.digest,
        has_predictions=checked.path.with_suffix(".npz").is_file(),
        source="mambabench",
        flags=(_lost_predictions(checked.path),) if checked.lost_predictions else (),
        defects=() if checked.defect is None else (checked.defect,),
    )


def _lost_predictions(path: Path) -> Flag:
    name = path.with_suffix(".npz").name
    return Flag("changed", f"{name} is not there: nothing shows that the score is its predictions'")


def _differ(one: Run, other: Run) -> bool:
    return one.digest != other.digest and (
        one.record.score != other.record.score or one.record.folds != other.record.folds
    )


def group_runs(runs: Sequence[Run]) -> tuple[Group, ...]:
    """Group runs by (task, protocol, encoder), sorted; seeds of another metric are refused.

    Two encoders of one name and different identities get ``@`` and eight hex digits of theirs;
    hear-eval-kit's results have no identity and get "(hear-eval-kit)". A limited run stands under a
    protocol of its own, "ssam2024 (limit 100)": it is neither compared nor averaged with others.
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
        key = (record.task, _shown_protocol(record), label, record.encoder_identity)
        groups.setdefault(key, []).append(run)
    return tuple(_group(key, groups[key]) for key in sorted(groups))


def _shown_protocol(record: RunRecord) -> str:
    """Return the protocol; a limited run's is another one, so that nothing compares the two."""
    if not record.limited:
        return record.protocol
    return f"{record.protocol} ({limit_of(record.task) or 'limited'})"


def _names_identity(record: RunRecord) -> bool:
    """Whether the label already carries the identity, as that of a checkpoint does."""
    digits = record.encoder_identity[:8]
    return bool(digits) and f"@{digits}" in record.encoder


def _group(key: tuple[str, str, str, str], runs: list[Run]) -> Group:
    task, protocol, label, identity = key
    ordered = sorted(runs, key=lambda run: run.record.seed)
    alike = tuple(_of_one_metric(run, ordered[0]) for run in ordered)
    return Group(label, identity, task, protocol, alike)


def _of_one_metric(run: Run, first: Run) -> Run:
    """Return the run, without its score where that is of another metric than the first seed's."""
    record, like = run.record, first.record
    if (record.metric, record.higher_is_better) == (like.metric, like.higher_is_better):
        return run
    problem = f"has metric {record.metric!r}, but {first.path.name} has {like.metric!r}"
    defect = DistrustedFile(run.path, problem, "probe this task again with all seeds")
    without = replace(
        record,
        metric=like.metric,
        higher_is_better=like.higher_is_better,
        score=None,
        folds=(),
        reason=f"refused: {run.path.name} {problem}",
    )
    return replace(run, record=without, defects=(*run.defects, defect))


def choose(groups: Sequence[Group], choice: Choice) -> tuple[Group, ...]:
    """Return what is chosen of the groups; MambabenchError where nothing is left."""
    if not choice:
        return tuple(groups)
    tasks = chosen("task", (group.task for group in groups), choice.tasks)
    encoders = chosen("encoder", (group.encoder for group in groups), choice.encoders)
    protocols = chosen("protocol", (group.protocol for group in groups), choice.protocols)
    left = [
        group
        for group in groups
        if group.task in tasks and group.encoder in encoders and group.protocol in protocols
    ]
    if not left:
        raise MambabenchError("these encoders have no such results on these tasks")
    kept = tuple(group for group in (_of_seeds(one, choice.seeds) for one in left) if group.runs)
    if not kept:
        there = sorted({seed for group in left for seed in group.seeds})
        names = ", ".join(map(str, there[:20])) + (", ..." if len(there) > 20 else "")
        raise MambabenchError(
            f"--seeds {choice.seeds}: no results of these seeds; there are seeds {names}"
        )
    return kept


def _of_seeds(group: Group, n: int | None) -> Group:
    if n is None:
        return group
    return replace(group, runs=tuple(run for run in group.runs if run.record.seed < n))


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
    if metrics not in _WHICH:
        raise MambabenchError(
            f"metrics is {metrics!r}; it is one of {', '.join(_WHICH)}"
            f"{nearest_names(metrics, _WHICH)}"
        )
    outs = [out] if isinstance(out, (str, Path)) else list(out)
    frame = score_frame(read_runs([Path(folder) for folder in outs]))
    if metrics == "primary":
        frame = frame[frame["primary"].astype(bool)].reset_index(drop=True)
    return frame


def score_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """Return every stored score of the runs, with the columns `COLUMNS` and their types."""
    import pandas as pd

    rows = [
        row for group in group_runs(runs) for run in group.runs for row in score_rows(group, run)
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    for column in ("best_epoch", "n_epochs", "n_test"):
        frame[column] = frame[column].astype("Int64")
    for column in ("score", "validation_score"):
        frame[column] = frame[column].astype("float64")
    return frame


def score_rows(group: Group, run: Run) -> list[tuple[object, ...]]:
    """Return the stored scores of one run, a row per fold and metric, in the order of `COLUMNS`."""

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
