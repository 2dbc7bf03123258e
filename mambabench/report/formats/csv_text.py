"""The report as CSV: fractions, unrounded; a matrix a protocol, or a line for every row."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from mambabench.report.flags import single
from mambabench.report.formats import Format
from mambabench.report.formats.json_text import ROW_KEYS
from mambabench.report.formats.tables import with_beside
from mambabench.report.matrix import Cell, matrices
from mambabench.report.statistics.comparison import Comparison

if TYPE_CHECKING:
    from mambabench.report.matrix import Matrix
    from mambabench.report.rows import Summary
    from mambabench.report.view import View

__all__ = ["FORMAT", "comparisons_csv", "long_csv", "matrix_csv"]


def long_csv(summary: Summary) -> str:
    """Return the rows as CSV: the keys of the JSON rows and the source; empty where null."""
    columns = (*ROW_KEYS, "source")
    return _csv(columns, ([getattr(row, key) for key in columns] for row in with_beside(summary)))


def comparisons_csv(summary: Summary) -> str:
    """Return every comparison of two encoders as CSV."""
    columns = [field.name for field in fields(Comparison)]
    return _csv(columns, ([getattr(one, name) for name in columns] for one in summary.comparisons))


def _csv(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return "; ".join(f"{one.code}: {one.text}" for one in value)
    return repr(value) if isinstance(value, float) else value


def matrix_csv(matrices: Iterable[Matrix]) -> str:
    """Return the matrices below each other: per column the number, +- and marks.

    Marks are `best`, `same` (does not differ from it) and the letters of flags.
    """
    parts = []
    for one in matrices:
        heads = [
            text for h in one.columns for text in (h.title, f"{h.title} +-", f"{h.title} marks")
        ]
        lines = []
        for line in one.lines:
            cells = [value for cell in line.cells for value in _values(cell)]
            what = line.head.sub if line.head.kind == "published" else ""
            lines.append([one.protocol, line.head.title, what, *cells])
        parts.append(_csv(["protocol", one.corner.lower(), "source", *heads], lines))
    return "\n".join(parts)


def _values(cell: Cell) -> tuple[object, object, str]:
    marks = ["best"] * cell.best + ["same"] * cell.same + single(cell.flags)
    half = cell.half_value if cell.half_value is not None else cell.half
    number = cell.text if "/" in cell.text else cell.value  # won/tied/lost is no number
    return number, half or None, " ".join(marks)


def _render(summary: Summary, view: View) -> str:
    return long_csv(summary) if view.table == "long" else matrix_csv(matrices(summary, view))


FORMAT = Format("csv", _render)
