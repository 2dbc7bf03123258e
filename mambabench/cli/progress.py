"""Show how far a long run is: one live line on a terminal, a plain line every 30 s elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mambabench.extract.verb import Progress

__all__ = ["ExtractionDisplay", "progress_text"]

PLAIN_EVERY_S = 30.0


def progress_text(progress: Progress) -> str:
    """Return clips done, speed in x real time, and the time left."""
    elapsed = max(progress.elapsed_s, 1e-9)
    rate = progress.audio_s / elapsed
    text = f"{progress.clips}/{progress.n_clips} clips"
    if rate <= 0:
        return text
    left = int((progress.total_audio_s - progress.audio_s) / rate)
    hours, rest = divmod(max(left, 0), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{text}, {rate:.1f} x real time, {hours}:{minutes:02d}:{seconds:02d} left"


class ExtractionDisplay:
    """A context that shows `Progress` on standard error.

    What providers print meanwhile goes there too: standard output is for results.
    """

    def __init__(self) -> None:
        self._live: Any = None
        self._redirected = contextlib.redirect_stdout(sys.stderr)
        self._last = time.monotonic()

    def __enter__(self) -> ExtractionDisplay:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.status import Status

            self._live = Status("reading headers", console=Console(stderr=True))
            self._live.start()
        self._redirected.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._redirected.__exit__(kind, error, trace)
        if self._live is not None:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Show the state, if it is time to; sizes are printed at once."""
        for line in progress.sizes:
            print(line, file=sys.stderr, flush=True)
        if self._live is not None:
            self._live.update(progress_text(progress))
            return
        now = time.monotonic()
        if now - self._last >= PLAIN_EVERY_S:
            self._last = now
            print(progress_text(progress), file=sys.stderr, flush=True)
