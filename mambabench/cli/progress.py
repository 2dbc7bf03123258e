"""Show how far a run is: a live line a stage on a terminal, a plain line every 30 s elsewhere."""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mambabench.engine.units import Crew
    from mambabench.extract.outcome import ExtractProgress
    from mambabench.probe.verb import ProbeProgress
    from mambabench.store.records import RunRecord

__all__ = ["Display", "extraction_text", "one_line", "time_left"]

PLAIN_EVERY_S = 30.0
ETA_FROM = 3  # units that must have ended before the rest is estimated


def one_line(text: str, width: int) -> str:
    """Return the text in one line: what does not fit is cut at its end."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def time_left(seconds: float) -> str:
    """Return "h:mm:ss left"."""
    hours, rest = divmod(max(int(seconds), 0), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} left"


def extraction_text(progress: ExtractProgress) -> str:
    """Return clips done, speed in x real time, and the time left."""
    rate = progress.audio_s / max(progress.elapsed_s, 1e-9)
    there = progress.n_there
    text = f"{progress.clips + there}/{progress.n_clips + there} clips"
    text += f" ({there} were there)" if there else ""
    if rate <= 0:
        return text + crew_text(progress.crew)
    left = (progress.total_audio_s - progress.audio_s) / rate
    return f"{text}, {rate:.1f} x real time, {time_left(left)}{crew_text(progress.crew)}"


def crew_text(crew: Crew | None) -> str:
    """Return ", 3 nodes, 12 workers"; nothing for one machine's own processes."""
    if crew is None:
        return ""
    return f", {_count(crew.nodes, 'node')}, {_count(crew.workers, 'worker')}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


class _ProbeText:
    """Units done, the task in hand with its mean so far, and the time left.

    The clock starts when the first unit has been trained: what is compiled before it, and records
    that were there already, would make the rest look longer or shorter than it is.
    """

    def __init__(self) -> None:
        self._scores: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        self._first: float | None = None
        self._trained = 0

    def __call__(self, progress: ProbeProgress, now: float) -> str:
        record = progress.record
        scores = self._scores[record.encoder, record.task]
        if record.score is not None:
            scores.append(record.score)
        units = f"{progress.n_done}/{progress.n_total} units"
        text = f"{record.encoder} on {record.task}"
        if scores:
            from mambabench.benchmarks.metrics import metric_of  # numpy: not for --help

            mean = statistics.fmean(scores)
            shown = f"{100 * mean:.1f} %" if metric_of(record.metric).share else f"{mean:.2f}"
            text += f": {record.metric} {shown} over {len(scores)}"
        left = self._left(progress, now)
        return f"{units}{left}, {text}"

    def _left(self, progress: ProbeProgress, now: float) -> str:
        if progress.seconds > 0:
            self._trained += 1
        if self._first is None:
            self._first = now if self._trained else None
            return ""
        remaining = progress.n_total - progress.n_done
        if self._trained <= ETA_FROM or not remaining:
            return ""
        return ", " + time_left((now - self._first) / (self._trained - 1) * remaining)


class Display:
    """A context that shows one stage after another on standard error.

    What providers print meanwhile goes there too: standard output is for results.
    """

    def __init__(self) -> None:
        self._live: Any = None
        self._line: Callable[[str], Any] = str  # what the live line takes
        self._redirected = contextlib.redirect_stdout(sys.stderr)
        self._title = ""
        self._last = time.monotonic()
        self._probe_text = _ProbeText()
        self._warned: set[str] = set()
        self._waiting: list[str] = []  # printed when the live line of the stage has ended

    def __enter__(self) -> Display:
        self._redirected.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()
        self._redirected.__exit__(kind, error, trace)

    def stage(self, title: str, doing: str = "") -> None:
        """End the line of the stage before and begin that of `title`."""
        self._end()
        self._title = title
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.status import Status
            from rich.text import Text

            console = Console(stderr=True, highlight=False)
            width = console.width - 3  # beside the spinner, and the last column stays free
            self._line = lambda text: Text(one_line(text, width))
            self._live = Status("", console=console)
            self._live.start()
            self._show(doing or "starting")
        elif title[:1].isdigit():  # one of several
            print(title, file=sys.stderr, flush=True)

    def extract(self, progress: ExtractProgress) -> None:
        """Show how far the extraction is, if it is time to; sizes are printed at once."""
        for line in progress.sizes:
            print(line, file=sys.stderr, flush=True)
        self._show(extraction_text(progress))

    def probe(self, progress: ProbeProgress) -> None:
        """Show how far the probes are, if it is time to."""
        self._warn(progress.record)
        text = self._probe_text(progress, time.monotonic())
        text += crew_text(progress.crew)
        self._show(text, last=progress.n_done == progress.n_total)

    def report(self, what: str, done: int, total: int) -> None:
        """Show how far a report is, if it is time to; its line begins with the first call."""
        if not self._title:
            self.stage("report")
        self._show(f"{what} {done}/{total}")

    def _warn(self, record: RunRecord) -> None:
        """Say once per (encoder, task, protocol) that a protocol hardly trains on so few rows."""
        from mambabench.store.small_sets import hardly_trained

        unit = f"{record.encoder} {record.task} {record.protocol}"
        if unit not in self._warned and (said := hardly_trained(record)) is not None:
            self._warned.add(unit)
            self._waiting.append(f"warning: {unit}: {said}")
            if self._live is None:
                self._tell()

    def _show(self, text: str, last: bool = False) -> None:
        if self._live is not None:
            self._live.update(self._line(f"{self._title}  {text}"))
            return
        now = time.monotonic()
        if last or now - self._last >= PLAIN_EVERY_S:
            self._last = now
            print(f"{self._title}: {text}", file=sys.stderr, flush=True)

    def _end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._tell()

    def _tell(self) -> None:
        """Print the warnings that wait, each once."""
        from mambabench.cli.lines import print_wrapped

        for line in self._waiting:
            print_wrapped(line, err=True)
        self._waiting.clear()
