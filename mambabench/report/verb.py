"""The verb `report`: from output folders to tables, files and a page."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

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
from mambabench.report.formats import FORMATS
from mambabench.report.names import read_names, warn_of_unknown
from mambabench.report.remembered import can_draw, look
from mambabench.report.results import read_runs
from mambabench.report.rows import Summary
from mambabench.report.summary import Progress, summarise
from mambabench.report.view import View

__all__ = ["EXPORTS", "ReportResult", "render", "report"]

PAGE_CLIPS = ("auto", "all", "none")
EXPORTS = ("hear-eval-kit", "ssam")  # others' trees of files, written where asked for
_DRAWING = 1  # version of the plot: raise it when the drawing changes


@dataclass(frozen=True)
class ReportResult:
    """What was reported."""

    text: str  # in the format asked for
    summary: Summary
    files: tuple[Path, ...]  # written below <first out>/report
    note: str | None  # which files could not be written, and why

    def _repr_html_(self) -> str:
        """Show the matrices in a notebook."""
        from mambabench.report.formats.page import matrices_html

        return matrices_html(self.summary)


def report(
    out: str | Path | Sequence[str | Path] = ("mambabench-out",),
    format: str = "terminal",
    baseline: str | None = None,
    *,
    task: str | Sequence[str] = (),
    encoder: str | Sequence[str] = (),
    export: Sequence[str] = (),
    names: str | Path | None = None,
    page_clips: str = "auto",
    progress: Progress | None = None,
    jobs: int | None = None,
    **view: Any,
) -> ReportResult:
    """Report the union of one or several output folders.

    Writes tables, page and plots to ``<first out>/report`` and returns the text of `format`, one
    of `FORMATS`. `baseline` compares every encoder with this one only. `task` and `encoder` (globs)
    choose before anything is compared; what is written then stays that of everything. `names` is a
    CSV of labels and display names; `export` names the trees of other tools to be written, of
    `EXPORTS`; `page_clips` says whether the page holds every clip ("auto": while it stays small,
    "all", "none"); `jobs` processes compute, by default one per core where there is much to do.
    `view` are the fields of `View`: table, rows, interval, sort, digits, published,
    columns, and width and color of the terminal. What cannot be written (a full disk, a read-only
    folder) is said in `note`, and the text is there all the same. Raises StoreError for missing,
    empty or contradicting folders, EncoderError for an unknown baseline, MambabenchError for an
    unknown format, option or pattern.
    """
    _check(format, export, page_clips)
    outs = [Path(out)] if isinstance(out, (str, Path)) else [Path(folder) for folder in out]
    if not outs:
        raise MambabenchError("out is empty: give at least one output folder")
    seen = _view(view, names)
    folder, note = _folder(outs[0])
    cache = folder / "cache" if folder else None
    tasks, encoders = _patterns(task), _patterns(encoder)
    whole = cache if not tasks and not encoders else None
    memory = look(outs, baseline, whole) if whole else None
    made_with = [page_clips, sorted(export), can_draw()]
    recalled = memory.recall(made_with, lambda: read_runs(outs)) if memory else None
    summary = (
        recalled.summary
        if recalled
        else summarise(
            outs,
            baseline=baseline,
            tasks=tasks,
            encoders=encoders,
            cache=cache,
            progress=progress,
            jobs=jobs,
        )
    )
    if names is not None:
        rows = summary.rows
        labels = sorted({row.encoder for row in rows} | {row.task for row in rows})
        if not tasks and not encoders:
            warn_of_unknown(Path(names), seen.labels, labels)
    if folder and whole and recalled and recalled.files is not None:
        files, note = list(recalled.files), None
        stored = folder / "report.json" if format == "json" else None
        text = stored.read_text(encoding="utf-8") if stored else render(summary, format, seen)
        return ReportResult(text, summary, tuple(files), note)
    text = render(summary, format, seen)  # first: what is wrong with the view writes nothing
    files = []
    if folder and whole:
        files, note = _write(folder, summary, export, page_clips)
        if memory and note is None:
            memory.keep(summary, made_with, files)
    return ReportResult(text, summary, tuple(files), note)


def _patterns(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _check(format: str, export: Sequence[str], page_clips: str) -> None:
    if format not in FORMATS:
        raise MambabenchError(
            f"format {format!r} is not one of {', '.join(FORMATS)}{nearest_names(format, FORMATS)}"
        )
    for name in export:
        if name not in EXPORTS:
            raise MambabenchError(
                f"export {name!r} is not one of {', '.join(EXPORTS)}{nearest_names(name, EXPORTS)}"
            )
    if page_clips not in PAGE_CLIPS:
        raise MambabenchError(
            f"page_clips {page_clips!r} is not one of {', '.join(PAGE_CLIPS)}"
            f"{nearest_names(page_clips, PAGE_CLIPS)}"
        )


def _view(given: dict[str, Any], names: str | Path | None) -> View:
    """Return the view; MambabenchError for a word that is none of its options."""
    known = [field.name for field in fields(View) if field.name not in ("names", "labels")]
    for name in given:
        if name not in known:
            raise MambabenchError(
                f"report has no option {name!r}; there are {', '.join(known)}"
                f"{nearest_names(name, known)}"
            )
    labels = {} if names is None else read_names(Path(names))
    return View(**given, names=None if names is None else Path(names), labels=labels)


def render(summary: Summary, format: str, view: View | None = None) -> str:
    """Return the summary's text in one of `FORMATS`."""
    return FORMATS[format].render(summary, view or View())


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


def _write(
    folder: Path, summary: Summary, export: Sequence[str], page_clips: str
) -> tuple[list[Path], str | None]:
    """Write every file of the report; return those written and a line on those that were not."""
    from mambabench.report.formats.csv_text import comparisons_csv, long_csv
    from mambabench.report.formats.json_text import as_json
    from mambabench.report.formats.page import as_page

    json_text = as_json(summary)
    rows = summary.rows
    steps: dict[str, Callable[[], Sequence[Path]]] = {
        "report.json": lambda: [write_text(folder / "report.json", json_text)],
        "scores.csv": lambda: [write_text(folder / "scores.csv", long_csv(summary))],
        "comparisons.csv": lambda: [
            write_text(folder / "comparisons.csv", comparisons_csv(summary))
        ],
        "references.bib": lambda: [write_text(folder / "references.bib", bibliography(summary))],
        "report.html": lambda: [write_text(folder / "report.html", as_page(summary, page_clips))],
        "hear_leaderboard.*.csv": lambda: write_leaderboard(folder, rows),
        "scores.*.pdf, .png": lambda: _draw(folder, summary, json_text),
    }
    if "ssam" in export:
        exact = "ssam2024+exact"
        steps["ssam/"] = lambda: write_ssam_files(folder / "ssam", rows)
        steps["ssam-exact/"] = lambda: write_ssam_files(folder / "ssam-exact", rows, exact)
    if "hear-eval-kit" in export:
        steps["hear-eval-kit/"] = lambda: write_kit_tree(folder / "hear-eval-kit", summary.runs)
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
    if not can_draw():
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
