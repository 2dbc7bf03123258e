"""The report on a terminal."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from mambabench.report.formats.tables import (
    COMPARISON_HEADINGS,
    OVERALL_HEADINGS,
    VERSUS_HEADINGS,
    cells,
    comparison_cells,
    notes,
    overall_cells,
    pools,
    shown,
    tables_of,
    versus_cells,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from mambabench.report.rows import PublishedRow, Summary

__all__ = ["as_terminal"]

_MOST_COMPARISONS = 40  # more stand in comparisons.csv only
_MOST_PUBLISHED = 5  # per task; the page has all of them


def as_terminal(summary: Summary, width: int = 120, color: bool = False) -> str:
    """Return the tables as text for a terminal `width` columns wide, with colours if asked."""
    from rich.console import Console

    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=color,
        color_system="auto" if color else None,
        highlight=False,
    )
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
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


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
    for protocol, tasks in tables_of(summary.rows):
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
