"""The matrix as a heat map with numbers: shades are places within a task, never across metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.colors import LinearSegmentedColormap

from mambabench.report.matrix import printed
from mambabench.report.plots.canvas import Canvas, cut_apart
from mambabench.report.plots.scores import in_order

if TYPE_CHECKING:
    from mambabench.report.rows import Row

__all__ = ["heat_figures"]

_MAP = LinearSegmentedColormap.from_list("places", ["#ffffff", "#8fb8de"])  # black text stays AA
_CELL = {"column": 0.36, "page": 0.43, "slide": 0.8}  # inches of a number


def heat_figures(canvas: Canvas, panels: Sequence[Sequence[Row]]) -> list[Any]:
    """Return the heat map, in as many figures as the tasks or encoders need."""
    encoders = in_order(panels)
    letters = 18 if canvas.options.figure == "column" else 28
    longest = max(map(len, cut_apart([canvas.name(one) for one in encoders], letters)))
    left = (0.6 * longest + 1) * canvas.size.font / 72
    most = min(12, max(1, int((canvas.size.width - left - 0.1) / _CELL[canvas.options.figure])))
    share = math.ceil(len(panels) / math.ceil(len(panels) / most))
    lines = max(1, int((canvas.size.height - 1.3 * canvas.scale) / (1.3 * canvas.size.line)))
    return [
        _figure(canvas, panels[start : start + share], encoders[top : top + lines], left, letters)
        for top in range(0, len(encoders), lines)
        for start in range(0, len(panels), share)
    ]


def _figure(
    canvas: Canvas,
    panels: Sequence[Sequence[Row]],
    encoders: Sequence[str],
    left: float,
    letters: int,
) -> Any:
    names = cut_apart([canvas.task(rows[0].task) for rows in panels], 18)
    head = 0.42 * max(map(len, names)) + 2.0
    head *= canvas.size.font / 72  # names stand at 45 degrees
    body = 1.3 * canvas.size.line * len(encoders)
    figure = canvas.figure(head + body + 0.05, layout=None)
    width, height = figure.get_size_inches()
    cell = min((width - left - head) / len(panels), 2.5 * _CELL[canvas.options.figure])
    frame = [left / width, 0.05 / height, cell * len(panels) / width, body / height]
    axes = figure.add_axes(frame)
    axes.imshow(_shades(panels, encoders), cmap=_MAP, vmin=0, vmax=1, aspect="auto")
    for x, rows in enumerate(panels):
        _numbers(canvas, axes, x, rows, encoders)
    canvas.label_rows(axes, encoders, letters)
    axes.set_xticks(
        [x - 0.1 for x in range(len(panels))],
        names,
        rotation=45, ha="left", rotation_mode="anchor",
    )  # fmt: skip
    axes.tick_params(axis="x", top=True, bottom=False, labeltop=True, labelbottom=False, length=2)
    axes.spines["bottom"].set_visible(False)
    return figure


def _shades(panels: Sequence[Sequence[Row]], encoders: Sequence[str]) -> list[list[float]]:
    """Return, by encoder and task, the share of the task's other encoders that are worse."""
    result = [[0.0] * len(panels) for _ in encoders]
    for x, rows in enumerate(panels):
        values = {row.encoder: row.mean or 0.0 for row in rows}
        sign = 1.0 if rows[0].higher_is_better else -1.0
        others = max(1, len(values) - 1)
        for y, encoder in enumerate(encoders):
            if encoder in values:
                own = sign * values[encoder]
                result[y][x] = sum(sign * value < own for value in values.values()) / others
    return result


def _numbers(
    canvas: Canvas, axes: Any, x: int, rows: Sequence[Row], encoders: Sequence[str]
) -> None:
    there = {row.encoder: row for row in rows}
    for y, encoder in enumerate(encoders):
        row = there.get(encoder)
        text = "–" if row is None else printed(row.metric, row.mean, 1)
        weight = "bold" if row is not None and row.best else "normal"
        axes.text(x, y, text, ha="center", va="center", weight=weight, color="black")
