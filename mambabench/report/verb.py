"""The verb `report`: from output folders to tables, files and a page."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mambabench.errors import MambabenchError, StoreError, nearest_names
from mambabench.files import read_json, write_json
from mambabench.report.cache import usable_cache
from mambabench.report.exchange.exports import (
    write_kit_tree,
    write_leaderboard,
    write_ssam_files,
    write_text,
)
from mambabench.report.rows import Summary
from mambabench.report.summary import Progress, summarise

__all__ = ["FORMATS", "ReportResult", "report"]

FORMATS = ("terminal", "markdown", "latex", "csv", "json")
_DRAWING = 1  # version of the plot: raise it when the drawing changes


@dataclass(frozen=True)
class ReportResult:
    """What was reported."""

    text: str  # in the format asked for
    summary: Summary
    files: tuple[Path, ...]  # written below <first out>/report
    note: str | None  # which files could not be written, and why


def report(
    out: str | Path | Sequence[str | Path] = ("mambabench-out",),
    format: str = "terminal",
    baseline: str | None = None,
    *,
    width: int = 120,
    color: bool = False,
    progress: Progress | None = None,
) -> ReportResult:
    """Report the union of one or several output folders.

    Writes tables, page and plots to ``<first out>/report`` and returns the text of `format`, one
    of `FORMATS`; `width` and `color` are for the terminal's. `baseline` compares every encoder with
    this one only. What cannot be written (a full disk, a read-only folder) is said in `note`, and
    the text is there all the same. Raises StoreError for missing, empty or contradicting folders,
    EncoderError for an unknown baseline, MambabenchError for an unknown format.
    """
    if format not in FORMATS:
        raise MambabenchError(
            f"format {format!r} is not one of {', '.join(FORMATS)}{nearest_names(format, FORMATS)}"
        )
    outs = [Path(out)] if isinstance(out, (str, Path)) else [Path(folder) for folder in out]
    if not outs:
        raise MambabenchError("out is empty: give at least one output folder")
    folder, note = _folder(outs[0])
    cache = folder / "cache" if folder else None
    summary = summarise(outs, baseline=baseline, cache=cache, progress=progress)
    files: list[Path] = []
    if folder:
        files, note = _write(folder, summary)
    return ReportResult(render(summary, format, width, color), summary, tuple(files), note)


def render(summary: Summary, format: str, width: int = 120, color: bool = False) -> str:
    """Return the summary's text in one of `FORMATS`."""
    from mambabench.report.formats import tables

    if format == "terminal":
        from mambabench.report.formats.terminal import as_terminal

        return as_terminal(summary, width, color)
    return {
        "markdown": tables.as_markdown,
        "latex": tables.as_latex,
        "csv": tables.as_csv,
        "json": tables.as_json,
    }[format](summary)


def _folder(out: Path) -> tuple[Path | None, str | None]:
    """Return the report's folder, or None and the reason where it cannot be made."""
    if not out.is_dir():  # said better by the reading of the records
        return None, None
    folder = out / "report"
    try:
        folder.mkdir(exist_ok=True)
        usable_cache(folder / "cache")
    except OSError as error:
        why = error.strerror or error
        return None, (
            f"no files written: {folder} cannot be written ({why}); to have them, report with a "
            "folder of yours as the first --out, or free space"
        )
    return folder, None


def _write(folder: Path, summary: Summary) -> tuple[list[Path], str | None]:
    """Write every file of the report; return those written and a line on those that were not."""
    from mambabench.report.formats import tables
    from mambabench.report.formats.page import as_page

    json_text = tables.as_json(summary)
    rows = summary.rows
    steps: dict[str, Callable[[], Sequence[Path]]] = {
        "report.json": lambda: [write_text(folder / "report.json", json_text)],
        "scores.csv": lambda: [write_text(folder / "scores.csv", tables.as_csv(summary))],
        "comparisons.csv": lambda: [
            write_text(folder / "comparisons.csv", tables.comparisons_csv(summary))
        ],
        "report.html": lambda: [write_text(folder / "report.html", as_page(summary))],
        "hear_leaderboard.*.csv": lambda: write_leaderboard(folder, rows),
        "ssam/": lambda: write_ssam_files(folder / "ssam", rows),
        "ssam-exact/": lambda: write_ssam_files(folder / "ssam-exact", rows, "ssam2024+exact"),
        "hear-eval-kit/": lambda: write_kit_tree(folder / "hear-eval-kit", summary.runs),
        "scores.*.pdf, .png": lambda: _draw(folder, summary, json_text),
    }
    files: list[Path] = []
    failed: dict[str, list[str]] = {}  # reason -> what
    for name, step in steps.items():
        try:
            files += step()
        except (OSError, StoreError) as error:
            cause = error.__cause__ if isinstance(error, StoreError) else error
            if not isinstance(cause, OSError):
                raise  # no fault of the folder
            failed.setdefault(cause.strerror or str(cause), []).append(name)
    if not failed:
        return files, None
    said = "; ".join(f"{', '.join(names)} ({why})" for why, names in failed.items())
    return files, f"{folder}: not written: {said}; free space or give another --out first"


def _draw(folder: Path, summary: Summary, json_text: str) -> list[Path]:
    """Draw the plots where matplotlib is installed and what they show has changed."""
    if importlib.util.find_spec("matplotlib") is None:
        return []
    from mambabench.report.formats.plot import draw, plot_files

    files = plot_files(folder, summary)
    digest = hashlib.sha256(f"{_DRAWING}{json_text}".encode()).hexdigest()
    mark = folder / "cache" / "plot.json"
    if mark.is_file() and all(file.is_file() for file in files):
        try:
            if read_json(mark)["drawn"] == digest:
                return files
        except (ValueError, KeyError, TypeError):
            pass  # a damaged mark: draw again
    draw(folder, summary)
    write_json(mark, {"drawn": digest})
    return files
