"""Draw the plots of a report that there are numbers for, and say which files that made."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.report.formats.tables import tables_of
from mambabench.report.places import counted_tasks
from mambabench.report.plots.canvas import Canvas, save
from mambabench.report.plots.cost import cost_figure, overall_of
from mambabench.report.plots.forest import forest_figures
from mambabench.report.plots.heat import heat_figures
from mambabench.report.plots.options import PLOTS
from mambabench.report.plots.ranks import rank_figure
from mambabench.report.plots.scores import score_figures
from mambabench.report.together import standing
from mambabench.store.records import protocol_folder

if TYPE_CHECKING:
    from mambabench.report.plots.options import PlotOptions
    from mambabench.report.rows import Row, Summary

__all__ = ["draw", "draw_some", "in_order"]


def draw(folder: Path, summary: Summary, options: PlotOptions) -> list[Path]:
    """Draw every plot asked for and return the files; needs matplotlib (the extra `plots`).

    A plot that there are no numbers for is not drawn, and what an earlier report left of it is
    removed: no baseline, no forest; below three encoders no ranks; no costs known, no such plot.
    """
    return in_order(draw_some(folder, summary, options, PLOTS), summary)


def draw_some(
    folder: Path, summary: Summary, options: PlotOptions, names: Collection[str]
) -> dict[str, list[Path]]:
    """Draw, or remove, the plots of some names as `draw` does; return the files by their stem."""
    canvas = Canvas(options)
    written: dict[str, list[Path]] = {}
    for protocol, tasks in tables_of(summary.rows):
        counted = set(counted_tasks([own[0].task for own in tasks]))
        panels = [
            known
            for own in tasks
            if own[0].task in counted and (known := [r for r in own if r.mean is not None])
        ]
        for name in (one for one in PLOTS if one in names):
            figures = []
            if name in options.plots and panels:
                with canvas.style():
                    figures = _figures(canvas, name, summary, protocol, panels)
            stem = _stem(name, protocol)
            written[stem] = save(canvas, folder, stem, figures)
    return written


def in_order(drawn: Mapping[str, list[Path]], summary: Summary) -> list[Path]:
    """Return the files of all plots, protocol by protocol."""
    stems = [_stem(name, protocol) for protocol, _ in tables_of(summary.rows) for name in PLOTS]
    return [file for stem in stems for file in drawn.get(stem, ())]


def _stem(name: str, protocol: str) -> str:
    return f"{name}.{protocol_folder(protocol)}"


def _figures(
    canvas: Canvas, name: str, summary: Summary, protocol: str, panels: list[list[Row]]
) -> list[Any]:
    if name == "scores":
        return score_figures(canvas, panels)
    if name == "heat":
        return heat_figures(canvas, panels)
    if name == "ranks":
        found = standing(summary, protocol)
        return [] if found is None else [rank_figure(canvas, found)]
    if name == "forest":
        own = [one for one in summary.comparisons if one.protocol == protocol]
        base = summary.baseline
        return [] if base is None else forest_figures(canvas, own, summary.rows, base)
    figure = cost_figure(canvas, summary.costs, *overall_of(summary, protocol))
    return [] if figure is None else [figure]
