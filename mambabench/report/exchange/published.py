"""Published rows: others' results on the same task directories, each with citation and protocol."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mambabench.errors import DataError
from mambabench.package_data import package_data
from mambabench.reading.tables import TableRow, read_rows, read_table
from mambabench.report.rows import PublishedRow

if TYPE_CHECKING:
    from mambabench.report.rows import Row

__all__ = ["COLUMNS", "published_beside", "published_folder", "read_published"]

COLUMNS = (
    "benchmark",
    "task",
    "task_directory",
    "metric",
    "value",
    "unit",
    "spread",
    "spread_kind",
    "n_seeds",
    "model",
    "params_m",
    "protocol",
    "citation",
    "location",
    "caution",
)
_FILES = ("hear_leaderboard.csv", "hear_other.csv", "ssam.csv", "superb.csv")
_SCALE = {"percent": 0.01, "score x100": 0.01}  # other units are printed as they are


def published_folder() -> Path | None:
    """Return the folder of published results; None where an installation lacks it."""
    folder = package_data("published")
    return folder if folder.is_dir() else None


def read_published(file: Path) -> tuple[PublishedRow, ...]:
    """Read one file of published rows; DataError, naming the line, where it breaks the schema."""
    header = read_rows(file, remedy="see README.md there")[:1]
    if not header or tuple(header[0][1]) != COLUMNS:
        raise DataError(f"{file}: the columns are not {', '.join(COLUMNS)}; see README.md there")
    rows = read_table(file, COLUMNS, strip=False)
    return tuple(_row(file, row.line, row) for row in rows)


def _row(file: Path, line: int, fields: TableRow) -> PublishedRow:
    for name in ("task", "metric", "model", "protocol", "citation", "location"):
        if not fields[name]:
            raise DataError(f"{file}, line {line}: {name} is empty; every row needs its source")
    scale = _SCALE.get(fields["unit"], 1.0)
    try:
        return PublishedRow(
            model=fields["model"],
            task=fields["task_directory"] or fields["task"],
            metric=fields["metric"],
            score=float(fields["value"]) * scale,
            spread=float(fields["spread"]) * scale if fields["spread"] else None,
            spread_kind=fields["spread_kind"],
            n_seeds=int(fields["n_seeds"]) if fields["n_seeds"] else None,
            protocol=fields["protocol"],
            citation=fields["citation"],
            location=fields["location"],
            caution=fields["caution"],
        )
    except ValueError as error:
        raise DataError(f"{file}, line {line}: {error}; numbers are written as 12.3") from error


def published_beside(rows: Iterable[Row]) -> tuple[PublishedRow, ...]:
    """Return the published rows of the tasks and metrics in `rows`, best first per task.

    Only exact task directories match: a subset of a task is another task.
    """
    from dataclasses import replace

    own: dict[tuple[str, str], set[str]] = {}
    better: dict[tuple[str, str], bool] = {}
    for row in rows:
        own.setdefault((row.task, row.metric), set()).add(row.protocol.removesuffix("+exact"))
        better[row.task, row.metric] = row.higher_is_better
    folder = published_folder()
    if folder is None or not own:
        return ()
    found = [
        replace(row, same_protocol=row.protocol in own[row.task, row.metric])
        for name in _FILES
        if (folder / name).is_file()
        for row in read_published(folder / name)
        if (row.task, row.metric) in own
    ]
    return tuple(
        sorted(
            found,
            key=lambda row: (
                row.task,
                -row.score if better[row.task, row.metric] else row.score,
                row.model,
            ),
        )
    )
