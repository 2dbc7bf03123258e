"""Plain tables and transfer progress for the verbs that list and download."""

from __future__ import annotations

import sys
import textwrap
import threading
import time
from collections.abc import Sequence
from types import TracebackType

from mambabench.cli.lines import print_lines, terminal_width

__all__ = ["TransferProgress", "print_facts", "print_table", "table_lines"]

_QUIET_S = 30.0  # between two lines where there is no terminal


def print_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    optional: Sequence[str] = (),
    numbers: Sequence[str] = (),
) -> None:
    """Print a table on stdout; a line of one cell is a heading of its own.

    Words and numbers are never broken. On a terminal the columns `optional` are left out, the first
    ones first, until the rest fits; then the last column goes on in the next line, between words.
    `numbers` are set to the right. Elsewhere everything is printed as wide as it is.
    """
    print_lines(table_lines(headings, rows, terminal_width(), optional, numbers))


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Print a line per name and value; on a terminal long values go on below, between words."""
    names = max((len(name) for name, _ in facts), default=0) + 2
    width = terminal_width()
    for name, value in facts:
        parts = [value] if width is None else _wrapped(value, max(20, width - names))
        print_lines([name.ljust(names) + parts[0], *(" " * names + part for part in parts[1:])])


def table_lines(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None,
    optional: Sequence[str] = (),
    numbers: Sequence[str] = (),
) -> list[str]:
    """Return the lines of a table that is at most `width` wide where its words allow it."""
    body = [row for row in rows if len(row) > 1]
    shown = list(range(len(headings)))
    widths = [max(len(line[i]) for line in [headings, *body]) for i in shown]
    for name in optional:
        if width is None or _total(shown, widths) <= width:
            break
        shown.remove(headings.index(name))
    last = shown[-1]
    room = None if width is None else max(1, width - _total(shown[:-1], widths) - 2)
    right = {headings.index(name) for name in numbers}
    lines = []
    for row in [headings, *rows]:
        if len(row) == 1:
            lines += ["", row[0]]
            continue
        cells = [row[i].rjust(widths[i]) if i in right else row[i].ljust(widths[i]) for i in shown]
        parts = [row[last]] if room is None or len(row[last]) <= room else _wrapped(row[last], room)
        if len(parts) == 1 and last in right:
            parts = [cells[-1]]
        lines.append("  ".join([*cells[:-1], parts[0]]).rstrip())
        lines += [" " * (_total(shown[:-1], widths) + 2) + part for part in parts[1:]]
    return lines


def _total(shown: Sequence[int], widths: Sequence[int]) -> int:
    return sum(widths[i] for i in shown) + 2 * (len(shown) - 1)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


class TransferProgress:
    """Show several transfers: bars on a terminal, elsewhere a line every 30 s, on stderr."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        self._lock = threading.Lock()
        self._tasks: dict[str, object] = {}
        self._last = time.monotonic()
        self._live = sys.stderr.isatty()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            console=Console(stderr=True),
            disable=not self._live,
        )

    def __enter__(self) -> TransferProgress:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def __call__(self, name: str, done: int, total: int | None) -> None:
        """Report that `done` of `total` units of `name` are there; called from any thread."""
        with self._lock:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=total)
            self._bars.update(self._tasks[name], completed=done, total=total)  # type: ignore[arg-type]
            if not self._live and time.monotonic() - self._last > _QUIET_S:
                self._last = time.monotonic()
                print(f"{name}: {done:,} of {total or 0:,}", file=sys.stderr)
