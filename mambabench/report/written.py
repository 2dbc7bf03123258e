"""The files of a report: tables, page and plots below its folder, and what could not be written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mambabench.errors import MambabenchError, StoreError, nearest_names
from mambabench.files import read_json, write_json
from mambabench.report.cache import usable_cache
from mambabench.report.exchange.citations import bibliography
from mambabench.report.exchange.exports import (
    write_kit_tree,
    write_leaderboard,
    write_ssam_files,
    write_text,
)
from mambabench.report.formats.csv_text import comparisons_csv, long_csv
from mambabench.report.formats.json_text import as_json
from mambabench.report.formats.page import as_page
from mambabench.report.plots.apart import DrawPlots, begin_to_draw
from mambabench.report.plots.options import PlotOptions
from mambabench.report.remembered import can_draw
from mambabench.report.rows import Summary

__all__ = ["EXPORTS", "PAGE_CLIPS", "Wanted", "draw_plots", "report_folder", "write_report"]

PAGE_CLIPS = ("auto", "all", "none")
EXPORTS = ("hear-eval-kit", "ssam")  # others' trees of files, written where asked for
_DRAWING = 2  # version of the plots: raise it when the drawing changes
_MARK = Path("cache", "plot.json")  # what the plots that are there were drawn from


@dataclass(frozen=True)
class Wanted:
    """Which files are written, and how; MambabenchError for a value that is none."""

    export: tuple[str, ...] = ()
    page_clips: str = "auto"
    with_audio: int = 0  # clips of each task whose sound the page holds
    tasks: tuple[Path, ...] = ()  # where that lies
    plots: PlotOptions = field(default_factory=PlotOptions)

    def __post_init__(self) -> None:
        for what, names, known in (
            ("export", self.export, EXPORTS),
            ("page_clips", (self.page_clips,), PAGE_CLIPS),
        ):
            for name in names:
                if name not in known:
                    near = nearest_names(name, known)
                    raise MambabenchError(f"{what} {name!r} is not one of {', '.join(known)}{near}")
        if self.with_audio < 0:
            raise MambabenchError(f"with_audio is {self.with_audio}; it is 0 or more clips")


def report_folder(out: Path, to: Path | None = None) -> tuple[Path | None, str | None]:
    """Return the report's folder, `to` if given, or None and the reason where it cannot be made."""
    if not out.is_dir():  # said better by the reading of the records
        return None, None
    folder = out / "report" if to is None else to
    try:
        folder.mkdir(parents=to is not None, exist_ok=True)
        usable_cache(folder / "cache")
    except OSError as error:
        why = error.strerror or error
        return None, (
            f"no files written: {folder} cannot be written ({why}); to have them, give "
            "--to DIR, a folder of yours, or free space"
        )
    return folder, None


def write_report(
    folder: Path, summary: Summary, wanted: Wanted, jobs: int | None = None
) -> tuple[list[Path], str | None]:
    """Write every file of the report; return those written and a line on those that were not.

    Plots of a large one are drawn on two processes, unless `jobs` is 1.
    """
    json_text = as_json(summary)
    with _plots_begun(folder, summary, wanted.plots, json_text, jobs) as drawing:
        return _write(folder, summary, wanted, json_text, drawing)


def _write(
    folder: Path, summary: Summary, wanted: Wanted, json_text: str, drawing: DrawPlots | None
) -> tuple[list[Path], str | None]:
    rows = summary.rows
    steps: dict[str, Callable[[], Sequence[Path]]] = {
        "report.json": lambda: [write_text(folder / "report.json", json_text)],
        "scores.csv": lambda: [write_text(folder / "scores.csv", long_csv(summary))],
        "comparisons.csv": lambda: [
            write_text(folder / "comparisons.csv", comparisons_csv(summary))
        ],
        "references.bib": lambda: [write_text(folder / "references.bib", bibliography(summary))],
        "report.html": lambda: [write_text(folder / "report.html", _page(summary, wanted, folder))],
        "hear_leaderboard.*.csv": lambda: write_leaderboard(folder, rows),
        "plots": lambda: draw_plots(folder, summary, wanted.plots, json_text, drawing),
    }
    if "ssam" in wanted.export:
        exact = "ssam2024+exact"
        steps["ssam/"] = lambda: write_ssam_files(folder / "ssam", rows)
        steps["ssam-exact/"] = lambda: write_ssam_files(folder / "ssam-exact", rows, exact)
    if "hear-eval-kit" in wanted.export:
        steps["hear-eval-kit/"] = lambda: write_kit_tree(folder / "hear-eval-kit", summary.runs)
    files: list[Path] = []
    failed: dict[str, list[str]] = {}  # reason -> what
    for name, step in steps.items():
        try:
            files += step()
        except (OSError, StoreError) as error:
            cause = error.__cause__ if isinstance(error, StoreError) else error
            if not isinstance(cause, OSError) or not _below(folder, cause):
                raise  # no fault of the folder
            failed.setdefault(cause.strerror or str(cause), []).append(name)
    if not failed:
        return files, None
    said = "; ".join(f"{', '.join(names)} ({why})" for why, names in failed.items())
    return files, f"{folder}: not written: {said}; free space, or give --to DIR elsewhere"


def _below(folder: Path, error: OSError) -> bool:
    """Whether an error is of this folder, or of no file that is named."""
    return error.filename is None or Path(error.filename).is_relative_to(folder)


def _page(summary: Summary, wanted: Wanted, folder: Path) -> str:
    return as_page(
        summary,
        wanted.page_clips,
        with_audio=wanted.with_audio,
        tasks=wanted.tasks,
        folder=folder,
    )


@contextmanager
def _plots_begun(
    folder: Path, summary: Summary, options: PlotOptions, json_text: str, jobs: int | None
) -> Iterator[DrawPlots | None]:
    """Begin with the plots where some are to be drawn."""
    if not _are_due(folder, options, json_text):
        yield None
        return
    with begin_to_draw(folder, summary, options, jobs) as drawing:
        yield drawing


def draw_plots(
    folder: Path,
    summary: Summary,
    options: PlotOptions,
    json_text: str,
    drawing: DrawPlots | None = None,
) -> list[Path]:
    """Draw the plots where matplotlib is installed and what they show has changed.

    `json_text` is all that the report says; `drawing` has begun already. Returns the files that are
    there.
    """
    if not options.plots or not can_draw():
        return []
    digest = _digest(options, json_text)
    mark = folder / _MARK
    files = _drawn(mark, digest)
    if files is not None:
        return files
    if drawing is None:
        from mambabench.report.plots.draw import draw

        drawing = partial(draw, folder, summary, options)
    mark.parent.mkdir(parents=True, exist_ok=True)
    files = drawing()
    write_json(mark, {"drawn": digest, "files": [file.name for file in files]})
    return files


def _are_due(folder: Path, options: PlotOptions, json_text: str) -> bool:
    try:
        drawn = _drawn(folder / _MARK, _digest(options, json_text))
    except OSError:
        return False  # said where the plots are drawn
    return bool(options.plots) and can_draw() and drawn is None


def _digest(options: PlotOptions, json_text: str) -> str:
    return hashlib.sha256(f"{_DRAWING}{options!r}{json_text}".encode()).hexdigest()


def _drawn(mark: Path, digest: str) -> list[Path] | None:
    """Return the files of an equal report that are there; None where they are to be drawn."""
    if not mark.is_file():
        return None
    try:
        body = read_json(mark)
        files = [mark.parent.parent / str(name) for name in body["files"]]
        same = body["drawn"] == digest and all(file.is_file() for file in files)
    except (ValueError, KeyError, TypeError):
        return None  # a damaged mark: draw again
    return files if same else None
