"""What of a report is shown, and how: the options that tables for people share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mambabench.errors import MambabenchError, nearest_names

__all__ = ["INTERVALS", "ROWS", "TABLES", "View"]

TABLES = ("matrix", "long")
ROWS = ("encoders", "tasks")
INTERVALS = ("clips", "seeds", "sd")


@dataclass(frozen=True)
class View:
    """Options of a table; MambabenchError, with the nearest, where one has no such value."""

    table: str = "matrix"  # or "long": a row for every score
    rows: str = "encoders"  # what a line of the matrix is
    interval: str = "clips"  # what +- is half the width of; "sd": the standard deviation
    sort: str = "rank"  # "rank", "name", an overall score or a task
    digits: int = 1  # decimals of percent; other metrics get two more
    names: Path | None = None  # CSV of labels and display names
    published: int = 5  # rows of others below ours, at most
    columns: int | None = None  # tasks in one block of the matrix; None: as many as fit
    width: int = 120  # of the terminal, in characters
    color: bool = False
    labels: dict[str, tuple[str, str]] = field(default_factory=dict)  # label -> (name, group)

    def __post_init__(self) -> None:
        for name, value, known in (
            ("table", self.table, TABLES),
            ("rows", self.rows, ROWS),
            ("interval", self.interval, INTERVALS),
        ):
            _known(name, value, known)
        if not 0 <= self.digits <= 6:
            raise MambabenchError(f"digits is {self.digits}; it is 0 to 6")
        if self.published < 0:
            raise MambabenchError(f"published is {self.published}; it is 0 or more rows")
        if self.columns is not None and self.columns < 1:
            raise MambabenchError(f"width is {self.columns} columns; it is 1 or more")


def _known(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise MambabenchError(
            f"{name} {value!r} is not one of {', '.join(known)}{nearest_names(value, known)}"
        )
