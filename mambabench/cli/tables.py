"""Plain tables and transfer progress for the verbs that list and download."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType

__all__ = ["TransferProgress", "print_table"]

_QUIET_S = 30.0  # between two lines where there is no terminal


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout; wide where there is no terminal, so that nothing is folded."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else 250).print(table)


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
