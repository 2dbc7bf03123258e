"""The report on a terminal."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from mambabench.report.formats import Format
from mambabench.report.formats.legend import legend
from mambabench.report.formats.tables import (
    COMPARISON_HEADINGS,
    OVERALL_HEADINGS,
    VERSUS_HEADINGS,
    cells,
    comparison_cells,
    notes,
    overall_cells,
    pools,
    remarks,
    shown,
    tables_of,
    versus_cells,
    with_beside,
)
from mambabench.report.matrix import lines_of, matrices, shown_cell

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from mambabench.report.matrix import Cell, Line, Matrix
    from mambabench.report.rows import PublishedRow, Summary
    from mambabench.report.view import View

__all__ = ["FORMAT", "long_terminal", "matrix_terminal"]

_MOST_COMPARISONS = 40  # more stand in comparisons.csv only
_MOST_PUBLISHED = 5  # per task; the page has all of them


def matrix_terminal(found: Sequence[Matrix], summary: Summary, view: View) -> str:
    """Return the matrices as text for a terminal, with colours if asked, and the notes below."""
    console = _console(view)
    for one in found:
        console.print(f"Protocol {_plain(one.protocol)}\n", style="bold")
        for block in _blocks(one, view):
            for line in _block(one, block, view):
                console.print(line, no_wrap=True, overflow="ignore", crop=False)
            console.print()
    if summary.baseline is not None:
        _comparisons(console, summary)
    for text in (*legend(found, summary, view), *remarks(summary), *pools(summary, most=12)):
        console.print(_plain(text), style="dim")
    return _text(console)


def _blocks(matrix: Matrix, view: View) -> list[list[int]]:
    """Return the columns of each block: as many as the terminal holds, or as were asked for."""
    left = _left(matrix, view)
    blocks: list[list[int]] = [[]]
    used = left
    for index in range(len(matrix.columns)):
        need = 2 + _column_width(matrix, index)
        full = used + need > view.width
        if view.columns is not None:
            full = full or len(blocks[-1]) >= view.columns
        if blocks[-1] and full:
            blocks.append([])
            used = left
        blocks[-1].append(index)
        used += need
    return blocks


def _name(line: Line, most: int) -> str:
    """Return a line's name; one of more than `most` letters is cut in the middle."""
    head = line.head
    name = f"{head.title} ({head.sub})" if head.kind == "published" else head.title
    name = f"{head.group}: {name}" if head.group else name
    if len(name) <= most:
        return name
    return f"{name[: most // 2]}…{name[-(most - most // 2 - 1) :]}"


def _left(matrix: Matrix, view: View) -> int:
    """Return the width of the first column."""
    most = _longest(view)
    return max(_wide(text) for text in (matrix.corner, *(_name(x, most) for x in matrix.lines)))


def _longest(view: View) -> int:
    return max(16, 2 * view.width // 5)


def _column_width(matrix: Matrix, index: int) -> int:
    head = matrix.columns[index]
    texts = [head.title, head.sub]
    texts += ["".join(shown_cell(x.cells[index], x.head, head)) for x in matrix.lines]
    return max(map(_wide, texts))


def _block(matrix: Matrix, block: Sequence[int], view: View) -> list[str]:
    """Return the lines of one block, as markup."""
    heads = [matrix.columns[i] for i in block]
    widths = [_column_width(matrix, i) for i in block]
    left = _left(matrix, view)

    def joined(name: str, values: Sequence[str], cells: Sequence[Cell | None]) -> str:
        parts = [_plain(name + " " * (left - _wide(name)))]
        for value, width, cell in zip(values, widths, cells, strict=True):
            text = _plain(value)
            if cell is not None and cell.best:
                text = text.replace(cell.text, f"[bold]{cell.text}[/bold]", 1)
            parts.append(" " * (width - _wide(value)) + text)
        return "  ".join(parts)

    nothing: list[Cell | None] = [None] * len(block)
    rule = "─" * (left + sum(width + 2 for width in widths))
    lines = [
        f"[bold]{joined(matrix.corner, [head.title for head in heads], nothing)}[/bold]",
        f"[dim]{joined('', [head.sub for head in heads], nothing)}[/dim]",
        rule,
    ]
    kind = ""
    for line in lines_of(matrix, block):
        if kind and kind != line.head.kind and {kind, line.head.kind} & {"published", "rank"}:
            lines.append(rule)
        kind = line.head.kind
        cells = [line.cells[i] for i in block]
        values = [
            "".join(shown_cell(cell, line.head, head))
            for cell, head in zip(cells, heads, strict=True)
        ]
        lines.append(joined(_name(line, _longest(view)), values, list(cells)))
    return lines


def _console(view: View) -> Console:
    from rich.console import Console

    return Console(
        file=io.StringIO(),
        width=view.width,
        force_terminal=view.color,
        color_system="auto" if view.color else None,
        highlight=False,
    )


def _text(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def long_terminal(summary: Summary, view: View) -> str:
    """Return the tables with a row a score as text for a terminal, with colours if asked."""
    console = _console(view)
    _scores(console, summary)
    if summary.overall:
        table = _table(OVERALL_HEADINGS, "Over all tasks", right=(3, 4))
        for one in summary.overall:
            table.add_row(*map(_plain, overall_cells(one)))
        console.print(table)
        for line in pools(summary, most=12):
            console.print(_plain(line), style="dim")
    if summary.versus:
        table = _table(VERSUS_HEADINGS, "Pairs over all tasks", right=(2, 3, 4, 5))
        for pair in summary.versus[:_MOST_COMPARISONS]:
            table.add_row(*map(_plain, versus_cells(pair)))
        console.print(table)
        left_out = len(summary.versus) - _MOST_COMPARISONS
        if left_out > 0:
            console.print(f"{left_out} more pairs in report.html and report.json.", style="dim")
    _comparisons(console, summary)
    if summary.published:
        _published(console, summary.published)
    for line in notes(summary):
        console.print(_plain(line), style="dim")
    return _text(console)


def _wide(text: str) -> int:
    """Return how many columns a text takes."""
    from rich.cells import cell_len

    return cell_len(text)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _table(headings: Sequence[str], title: str, right: Iterable[int]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number in right else "left")
    return table


def _scores(console: Console, summary: Summary) -> None:
    """Print a table a task below one heading a protocol, all of them in the same columns."""
    from rich.table import Table

    headings = ("Encoder", "Seeds", "Mean", "SD", "CI seeds", "CI clips", "Ties")
    for protocol, tasks in tables_of(with_beside(summary)):
        console.print(f"Protocol {_plain(protocol)}", style="bold")
        printed = [[cells(row)[2:] for row in own] for own in tasks]
        lines = [list(headings), *(line for own in printed for line in own)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
        for number, (own, values) in enumerate(zip(tasks, printed, strict=True)):
            clips = next((f", {row.n_test} test clips" for row in own if row.n_test), "")
            task, metric = cells(own[0])[:2]
            console.print(f"\n[bold]{_plain(task)}[/bold]  {_plain(metric)}{clips}")
            table = Table(box=None, show_header=number == 0, pad_edge=False, padding=(0, 2, 0, 0))
            for i, heading in enumerate(headings):
                justify: Literal["left", "right"] = "right" if i in (1, 2, 3) else "left"
                table.add_column(heading, justify=justify, min_width=widths[i])
            for row, line in zip(own, values, strict=True):
                text = [_plain(value) for value in line]
                text[2] = f"[bold]{text[2]}[/bold]" if row.best else text[2]
                table.add_row(*text)
            console.print(table)
        console.print()


def _comparisons(console: Console, summary: Summary) -> None:
    count = len(summary.comparisons)
    if count > _MOST_COMPARISONS:
        console.print(
            f"{count} comparisons of two encoders: see comparisons.csv, or name a --baseline."
        )
    elif count:
        table = _table(COMPARISON_HEADINGS, "Comparisons", right=(3, 5, 6, 7))
        for one in summary.comparisons:
            table.add_row(*map(_plain, comparison_cells(one)))
        console.print(table)


def _published(console: Console, rows: Sequence[PublishedRow]) -> None:
    table = _table(("Task", "Model", "Score", "Protocol"), "Published results", right=(2,))
    left_out = 0
    seen: dict[str, int] = {}
    for row in rows:
        seen[row.task] = seen.get(row.task, 0) + 1
        if seen[row.task] > _MOST_PUBLISHED:
            left_out += 1
            continue
        other = "" if row.same_protocol else " (other protocol)"
        score = shown(row.metric, row.score)
        table.add_row(*map(_plain, (row.task, row.model, score, row.protocol + other)))
    console.print(table)
    if left_out:
        console.print(
            f"The best {_MOST_PUBLISHED} a task; {left_out} more, and the sources, in report.html "
            "and --format markdown.",
            style="dim",
        )


def _render(summary: Summary, view: View) -> str:
    if view.table == "long":
        return long_terminal(summary, view)
    return matrix_terminal(matrices(summary, view), summary, view)


FORMAT = Format("terminal", _render)
