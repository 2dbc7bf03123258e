"""The verb `report`: from output folders to tables, files and a page."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from mambabench.engine.choice import elsewhere
from mambabench.errors import MambabenchError, nearest_names
from mambabench.provenance import usable_cores
from mambabench.reading.text import read_text
from mambabench.report.choice import Choice
from mambabench.report.costs import costs_of
from mambabench.report.formats import FORMATS
from mambabench.report.formats.json_text import as_json
from mambabench.report.formats.page import matrices_html
from mambabench.report.formats.page_audio import AUDIO_FOLDER
from mambabench.report.names import chosen, read_names, warn_of_unknown
from mambabench.report.plots.options import PLOTS, PlotOptions
from mambabench.report.remembered import can_draw, look
from mambabench.report.results import choose, group_runs, read_runs
from mambabench.report.rows import Summary
from mambabench.report.runs import Run
from mambabench.report.summary import OnStep, summarise
from mambabench.report.view import View
from mambabench.report.written import EXPORTS, Wanted, draw_plots, report_folder, write_report

__all__ = ["EXPORTS", "ReportResult", "check_format", "render", "report"]


@dataclass(frozen=True)
class ReportResult:
    """What was reported."""

    text: str  # in the format asked for; "" where that is binary
    summary: Summary
    files: tuple[Path, ...]  # written below <first out>/report
    note: str | None  # which files could not be written, and why
    data: bytes = b""  # in a binary format

    def _repr_html_(self) -> str:
        """Show the matrices in a notebook."""

        return matrices_html(self.summary)


def report(
    out: str | Path | Sequence[str | Path] = ("mambabench-out",),
    format: str = "terminal",
    baseline: str | None = None,
    *,
    task: str | Sequence[str] = (),
    encoder: str | Sequence[str] = (),
    protocol: str | Sequence[str] = (),
    seeds: int | None = None,
    to: str | Path | None = None,
    export: str | Sequence[str] = (),
    names: str | Path | None = None,
    page_clips: str = "auto",
    with_audio: int = 0,
    tasks: str | Path | Sequence[str | Path] = (),
    plot: str | Sequence[str] = ("all",),
    figure: str = "page",
    highlight: str | Sequence[str] = (),
    costs: str | Path | None = None,
    progress: OnStep | None = None,
    jobs: int | None = None,
    engine: str = "local",
    per_node: int | None = None,
    **view: Any,
) -> ReportResult:
    """Report the union of one or several output folders.

    Writes tables, page and plots to the folder `to`, by default ``<first out>/report``, and returns
    the text of `format`, one of `FORMATS` (or its `data`, where it is binary). `baseline` compares
    every encoder with this one only. `task`, `encoder` and `protocol` (globs) and `seeds` (so many:
    0 to n - 1) choose before anything is compared; files of a choice are written only to a folder
    that `to` names. `names` is a CSV of labels and display names; `export` names the trees of other
    tools to be written, of `EXPORTS`; `page_clips` says whether the page holds every clip ("auto":
    while it stays small, "all", "none"), and plays the `with_audio` hardest clips of each task,
    whose directories are, or lie in, `tasks` (``<out>/tasks``). `plot` names the plots, of `PLOTS`
    ("all", "none"), `figure` what they are sized for, `highlight` (globs) the encoders in colour
    among grey ones, and `costs` a CSV of what encoders cost. Of a choice without `to` only plots
    that are named are drawn, to ``report/chosen``. `jobs` processes compute, by default one per
    core where there is much to do. `engine` is where scores are resampled and compared, as
    ``--engine`` has it, with `per_node` workers on each node of Ray. `view` are the fields of
    `View`: table, rows, interval, sort, digits, published, columns, and width and color of the
    terminal. What cannot be written (a full disk, a read-only folder) is said in `note`, and the
    text is there all the same. Raises StoreError for missing, empty or contradicting folders,
    EncoderError for an unknown baseline, MambabenchError for an unknown format, option or pattern,
    and for a format whose package is missing.
    """
    check_format(format)  # what is wrong with options is said before the work
    export = (export,) if isinstance(export, str) else tuple(export)
    outs = [Path(out)] if isinstance(out, (str, Path)) else [Path(folder) for folder in out]
    if not outs:
        raise MambabenchError("out is empty: give at least one output folder")
    folders = [Path(tasks)] if isinstance(tasks, (str, Path)) else [Path(one) for one in tasks]
    audio = tuple(folders or [folder / "tasks" for folder in outs]) if with_audio else ()
    wanted = Wanted(export, page_clips, with_audio, audio, PlotOptions(_plots(plot), figure))
    where = elsewhere(engine, outs[0], jobs or usable_cores(), per_node)
    seen = _view(view, names)
    choice = Choice(_patterns(task), _patterns(encoder), _patterns(protocol), seeds)
    folder, note = report_folder(outs[0], None if to is None else Path(to))
    cache = folder / "cache" if folder else None
    whole = cache if to is not None or not choice else None
    memory = look(outs, baseline, choice, whole) if whole else None
    made_with = [
        page_clips,
        [with_audio, *map(str, audio), *_audio_beside(folder)],
        sorted(export),
        can_draw(),
        *_drawn_with(wanted, highlight, seen, costs),
    ]
    recalled = memory.recall(made_with, lambda: _runs(outs, choice)) if memory else None
    summary = (
        recalled.summary
        if recalled
        else summarise(
            outs,
            baseline=baseline,
            choice=choice,
            cache=cache,
            progress=progress,
            jobs=jobs,
            elsewhere=where,
        )
    )
    if recalled is None or recalled.files is None:
        summary = replace(summary, costs=costs_of(summary, None if costs is None else Path(costs)))
    plots = _with_names(wanted.plots, summary, _patterns(highlight), seen)
    if names is not None:
        rows = summary.rows
        labels = sorted({row.encoder for row in rows} | {row.task for row in rows})
        if not choice:
            warn_of_unknown(Path(names), seen.labels, labels)
    if folder and whole and recalled and recalled.files is not None:
        files, note = list(recalled.files), None
        stored = folder / "report.json" if format == "json" else None
        text = stored.read_text(encoding="utf-8") if stored else render(summary, format, seen)
        return _result(text, summary, files, note)
    text = render(summary, format, seen)  # first: what is wrong with the view writes nothing
    files = []
    if folder and whole:
        files, note = write_report(folder, summary, replace(wanted, plots=plots), jobs)
        if memory and note is None:
            memory.keep(summary, made_with, files)
    elif folder and _patterns(plot) != ("all",):
        files = draw_plots(folder / "chosen", summary, plots, as_json(summary))
    return _result(text, summary, files, note)


def _result(
    text: str | bytes, summary: Summary, files: Sequence[Path], note: str | None
) -> ReportResult:
    if isinstance(text, bytes):
        return ReportResult("", summary, tuple(files), note, text)
    return ReportResult(text, summary, tuple(files), note)


def _audio_beside(folder: Path | None) -> list[str]:
    """Return what may be heard from beside the page: tasks and their rates."""
    return [] if folder is None else sorted(map(str, (folder / AUDIO_FOLDER).glob("*/*")))


def _runs(outs: Sequence[Path], choice: Choice) -> tuple[Run, ...]:
    """Read what a report kept is of."""
    runs = read_runs(outs)
    if not choice:
        return runs
    return tuple(run for group in choose(group_runs(runs), choice) for run in group.runs)


def _patterns(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def check_format(format: str) -> None:
    """Raise MambabenchError for a format that is unknown, or whose package is not installed."""
    if format not in FORMATS:
        raise MambabenchError(
            f"format {format!r} is not one of {', '.join(FORMATS)}{nearest_names(format, FORMATS)}"
        )
    package = FORMATS[format].package
    if package is not None and importlib.util.find_spec(package) is None:
        raise MambabenchError(
            f"format {format} needs {package}, which is not installed: "
            f"pip install 'mambabench[{format}]'"
        )


def _plots(plot: str | Sequence[str]) -> tuple[str, ...]:
    names = _patterns(plot)
    return PLOTS if names == ("all",) else () if names == ("none",) else names


def _drawn_with(
    wanted: Wanted, highlight: str | Sequence[str], view: View, costs: str | Path | None
) -> list[Any]:
    """Return what plots and costs follow from beside the results, as JSON has it."""
    table = (
        None if costs is None else read_text(Path(costs), remedy="give a CSV with a column encoder")
    )
    names = sorted((label, *name) for label, name in view.labels.items())
    plots = wanted.plots
    return [list(plots.plots), plots.figure, list(_patterns(highlight)), names, table]


def _with_names(
    plots: PlotOptions, summary: Summary, highlight: tuple[str, ...], view: View
) -> PlotOptions:
    """Return the options with the encoders to highlight; MambabenchError where a glob fits none."""
    labels = [row.encoder for row in summary.rows]
    found = chosen("highlight", labels, highlight) if highlight else set[str]()
    return replace(plots, highlight=tuple(sorted(found)), labels=view.labels)


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


def render(summary: Summary, format: str, view: View | None = None) -> str | bytes:
    """Return the summary in one of `FORMATS`: text, or bytes where that is binary."""
    return FORMATS[format].render(summary, view or View())
