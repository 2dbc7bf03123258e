"""What a matrix is made of: cells, heads, lines; formats draw them, `matrix` fills them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mambabench.benchmarks.metrics.ratios import WORD_ERRORS_LM

if TYPE_CHECKING:
    from mambabench.report.rows import Row

__all__ = ["BESIDE", "Cell", "Head", "Line", "Matrix", "column_of"]

BESIDE = " + LM"  # behind a task's name: the column of the score beside its own


@dataclass(frozen=True)
class Cell:
    """One number of the matrix, as text and as it is."""

    text: str = "–"
    half: str = ""  # half the width of the interval, or the standard deviation; "" where none
    value: float | None = None  # fractions and ranks, unrounded
    half_value: float | None = None
    best: bool = False
    second: bool = False
    same: bool = False  # does not differ from the best (with a baseline: from that)
    flags: str = ""  # letters of its flags
    marks: str = ""  # † ‡ * (clusters drawn) behind the number
    row: Row | None = None


@dataclass(frozen=True)
class Head:
    """What a column or a line is."""

    key: str  # label, task directory or normalisation
    title: str
    sub: str = ""  # metric and number of clips; citation of a published row
    kind: str = "task"  # task, beside, rank, overall, encoder or published
    group: str = ""


@dataclass(frozen=True)
class Line:
    """One line of the matrix: a cell a column."""

    head: Head
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Matrix:
    """One protocol's table."""

    protocol: str
    corner: str
    columns: tuple[Head, ...]
    lines: tuple[Line, ...]
    n_seeds: tuple[int, ...]  # the different numbers of seeds in it
    more_published: int = 0  # rows of others that were left out


def column_of(task: str, metric: str) -> str:
    """Return the key of the column that a score of `task` stands in."""
    return task + BESIDE if metric == WORD_ERRORS_LM.name else task
