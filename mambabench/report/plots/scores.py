"""A panel a task: every encoder's mean with both of its intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mambabench.benchmarks.metrics import metric_of
from mambabench.report.formats.tables import unit
from mambabench.report.plots.canvas import LINE, Canvas, cut_apart

if TYPE_CHECKING:
    from mambabench.report.rows import Row

__all__ = ["MOST_PANELS", "in_order", "score_figures"]

MOST_PANELS = 12  # of a figure
_LEGEND = (
    "dot: mean over seeds; line: 95 % over test clips (without ends); pale bar: 95 % over seeds (t)"
)


def in_order(panels: Sequence[Sequence[Row]]) -> list[str]:
    """Encoders by their mean rank over the tasks that they have, best first."""
    ranks: dict[str, list[int]] = {}
    for rows in panels:  # already best first
        for rank, row in enumerate(rows):
            ranks.setdefault(row.encoder, []).append(rank)
    return sorted(ranks, key=lambda name: (sum(ranks[name]) / len(ranks[name]), name))


def score_figures(canvas: Canvas, panels: Sequence[Sequence[Row]]) -> list[Any]:
    """Return as many figures as the tasks need, of at most twelve panels each.

    `panels` hold the rows of a task that have a mean, best first.
    """
    encoders = in_order(panels)
    size = canvas.size
    height = 5.0 * size.line + size.line * len(encoders)  # of a panel with title, axis and its name
    columns = min(size.panels, len(panels))
    lines = max(1, int((size.height - 2 * size.line) / height))
    most = min(MOST_PANELS, lines * columns)
    pages = math.ceil(len(panels) / most)
    share = math.ceil(len(panels) / pages)
    share = min(most, math.ceil(share / columns) * columns)  # full lines, pages of like size
    return [
        _figure(canvas, panels[start : start + share], encoders, columns, height)
        for start in range(0, len(panels), share)
    ]


def _figure(
    canvas: Canvas,
    panels: Sequence[Sequence[Row]],
    encoders: Sequence[str],
    columns: int,
    height: float,
) -> Any:
    lines = math.ceil(len(panels) / columns)
    figure = canvas.figure(lines * height + 2.5 * canvas.size.line)
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
    names = [canvas.task(rows[0].task) for rows in panels]
    titles = cut_apart(names, 22 if canvas.size.panels > 2 else 20)
    for number, one in enumerate(axes.flat):
        if number < len(panels):
            _panel(canvas, one, panels[number], encoders)
            one.set_title(titles[number], loc="left", fontweight="bold", pad=3)
        else:
            one.set_axis_off()
    letters = 18 if canvas.options.figure == "column" else 26
    for line in axes:
        canvas.label_rows(line[0], encoders, letters)
    text = _LEGEND if canvas.options.figure != "column" else _LEGEND.replace("; pale", ";\npale")
    figure.supxlabel(text, fontsize=canvas.size.font * 0.9, color="#555555")
    return figure


def _panel(canvas: Canvas, axes: Any, rows: Sequence[Row], encoders: Sequence[str]) -> None:
    first, there = rows[0], {row.encoder: row for row in rows}
    scale = 100.0 if metric_of(first.metric).share else 1.0
    for y, encoder in enumerate(encoders):
        row = there.get(encoder)
        if row is None or row.mean is None:
            axes.text(0.02, y, "–", va="center", color="#999999",
                      transform=axes.get_yaxis_transform())  # fmt: skip
            continue
        _mark(canvas, axes, row, y, scale)
    axes.set_xlabel(first.metric + unit(first.metric, first.higher_is_better), labelpad=1)
    axes.grid(axis="x", color=LINE, lw=0.5 * canvas.scale, zorder=0)
    axes.set_axisbelow(True)
    axes.margins(x=0.08)
    axes.locator_params(axis="x", nbins=4)


def _mark(canvas: Canvas, axes: Any, row: Row, y: int, scale: float) -> None:
    color, size = canvas.color(row.encoder), canvas.scale
    above = 4 if row.encoder in canvas.options.highlight else 2
    for low, high, width, alpha in (
        (row.ci95_low, row.ci95_high, 4.2, 0.35),
        (row.boot_low, row.boot_high, 0.9, 1.0),
    ):
        if low is not None and high is not None:
            axes.plot([scale * low, scale * high], [y, y], color=color, lw=width * size,
                      alpha=alpha, solid_capstyle="butt", zorder=above)  # fmt: skip
    mean = row.mean or 0.0
    axes.plot(scale * mean, y, "o", color=color, ms=3.4 * size, zorder=above + 1,
              markeredgecolor="white", markeredgewidth=0.5 * size)  # fmt: skip
