"""The report on a terminal."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mambabench.report.tables import (
    COMPARISON_HEADINGS,
    OVERALL_HEADINGS,
    cells,
    comparison_cells,
    notes,
    overall_cells,
    shown,
    tables_of,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from mambabench.report.published import PublishedRow
    from mambabench.report.summary import Summary

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
    headings = ("Encoder", "Seeds", "Mean", "SD", "CI seeds", "CI clips", "Ties")
    for protocol, tasks in tables_of(summary.rows):
        table = _table(headings, f"Protocol {_plain(protocol)}", right=(1, 2, 3))
        for own in tasks:
            first = cells(own[0])
            clips = next((f", {row.n_test} test clips" for row in own if row.n_test), "")
            table.add_row(f"[bold]{_plain(first[0])}[/bold]  {_plain(first[1])}{clips}")
            for row in own:
                values = [_plain(value) for value in cells(row)[2:]]
                if row.best:
                    values[2] = f"[bold]{values[2]}[/bold]"
                table.add_row("  " + values[0], *values[1:])
        console.print(table)


def _comparisons(console: Console, summary: Summary) -> None:
    count = len(summary.comparisons)
    if count > _MOST_COMPARISONS:
        console.print(
            f"{count} comparisons of two encoders: see comparisons.csv, or name a --baseline."
        )
    elif count:
        table = _table(COMPARISON_HEADINGS, "Comparisons", right=(3, 5, 6))
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
