"""The report as Markdown: the matrix of every protocol, or tables with a row a score."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mambabench.report.formats import Format
from mambabench.report.formats.legend import SAME_BYTES, legend
from mambabench.report.formats.tables import (
    COMPARISON_HEADINGS,
    HEADINGS,
    OVERALL_HEADINGS,
    PUBLISHED_HEADINGS,
    VERSUS_HEADINGS,
    cells,
    comparison_cells,
    notes,
    overall_cells,
    pools,
    published_cells,
    remarks,
    tables_of,
    versus_cells,
    with_beside,
)
from mambabench.report.matrix import matrices, shown_cell

if TYPE_CHECKING:
    from mambabench.report.matrix import Cell, Head, Line, Matrix
    from mambabench.report.rows import Summary
    from mambabench.report.view import View

__all__ = ["FORMAT", "long_markdown", "matrix_markdown"]


def long_markdown(summary: Summary) -> str:
    """Return the report as Markdown."""
    parts = []
    for protocol, tasks in tables_of(with_beside(summary)):
        rows = [cells(row) for own in tasks for row in own]
        best = [row.best for own in tasks for row in own]
        for row, bold in zip(rows, best, strict=True):
            row[4] = f"**{row[4]}**" if bold else row[4]
        parts.append(f"## Protocol `{protocol}`\n\n" + _markdown_table(HEADINGS, rows))
    parts.append("\n".join(f"- {line}" for line in (*notes(summary), SAME_BYTES)) + "\n")
    if summary.overall:
        rows = [overall_cells(one) for one in summary.overall]
        parts.append("## Over all tasks\n\n" + _markdown_table(OVERALL_HEADINGS, rows))
        parts.append("\n".join(f"- {line}" for line in pools(summary)) + "\n")
    if summary.versus:
        rows = [versus_cells(one) for one in summary.versus]
        parts.append("## Pairs over all tasks\n\n" + _markdown_table(VERSUS_HEADINGS, rows))
    if summary.comparisons:
        rows = [comparison_cells(one) for one in summary.comparisons]
        parts.append("## Comparisons\n\n" + _markdown_table(COMPARISON_HEADINGS, rows))
    if summary.published:
        rows = [published_cells(one) for one in summary.published]
        parts.append("## Published results\n\n" + _markdown_table(PUBLISHED_HEADINGS, rows))
    return "\n".join(parts)


def _markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(values: Iterable[str]) -> str:
        return "| " + " | ".join(value.replace("|", "\\|") for value in values) + " |\n"

    return line(headings) + line(["---"] * len(headings)) + "".join(line(row) for row in rows)


def matrix_markdown(found: Sequence[Matrix], summary: Summary, view: View) -> str:
    """Return a table a protocol and the notes below."""
    parts = []
    for one in found:
        headings = [one.corner, *(_head(head) for head in one.columns)]
        lines = [_line(line, one.columns) for line in one.lines]
        parts.append(f"## Protocol `{one.protocol}`\n\n" + _markdown_table(headings, lines))
    lines_below = legend(found, summary, view) + remarks(summary) + pools(summary, most=12)
    lines_below.append(SAME_BYTES)
    parts.append("\n".join(f"- {line}" for line in lines_below) + "\n")
    if summary.baseline is not None and summary.comparisons:
        rows = [comparison_cells(one) for one in summary.comparisons]
        parts.append("## Comparisons\n\n" + _markdown_table(COMPARISON_HEADINGS, rows))
    return "\n".join(parts)


def _head(head: Head) -> str:
    name = f"*{head.title}*" if head.kind == "published" else head.title
    return f"{name}<br>{head.sub}" if head.sub else name


def _line(line: Line, columns: Sequence[Head]) -> list[str]:
    head = line.head
    name = f"{head.group}: {head.title}" if head.group else _head(head)
    return [
        name,
        *(_cell(cell, head, column) for cell, column in zip(line.cells, columns, strict=True)),
    ]


def _cell(cell: Cell, line: Head, column: Head) -> str:
    number, rest = shown_cell(cell, line, column)
    return (f"**{number}**" if cell.best else number) + rest


def _render(summary: Summary, view: View) -> str:
    if view.table == "long":
        return long_markdown(summary)
    return matrix_markdown(matrices(summary, view), summary, view)


FORMAT = Format("markdown", _render)
