"""Draw the plots of a report that there are numbers for, and say which files that made."""

from __future__ import annotations

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

__all__ = ["draw"]


def draw(folder: Path, summary: Summary, options: PlotOptions) -> list[Path]:
    """Draw every plot asked for and return the files; needs matplotlib (the extra `plots`).

    A plot that there are no numbers for is not drawn, and what an earlier report left of it is
    removed: no baseline, no forest; below three encoders no ranks; no costs known, no such plot.
    """
    canvas = Canvas(options)
    written: list[Path] = []
    for protocol, tasks in tables_of(summary.rows):
        counted = set(counted_tasks([own[0].task for own in tasks]))
        panels = [
            known
            for own in tasks
            if own[0].task in counted and (known := [r for r in own if r.mean is not None])
        ]
        for name in PLOTS:
            figures = []
            if name in options.plots and panels:
                with canvas.style():
                    figures = _figures(canvas, name, summary, protocol, panels)
            stem = f"{name}.{protocol_folder(protocol)}"
            if figures:
                written += save(canvas, folder, stem, figures)
            else:
                _remove(folder, stem)
    return written


def _remove(folder: Path, stem: str) -> None:
    for file in (*folder.glob(f"{stem}.p[dn][fg]"), *folder.glob(f"{stem}-*.p[dn][fg]")):
        end = file.stem[len(stem) :]
        if not end or end[1:].isdigit():
            file.unlink()


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
