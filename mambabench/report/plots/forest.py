"""Every encoder against the baseline: a panel an encoder, its differences task by task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mambabench.benchmarks.metrics import metric_of
from mambabench.report.plots.canvas import GREY, LINE, Canvas, cut, cut_apart
from mambabench.report.plots.scores import MOST_PANELS

if TYPE_CHECKING:
    from mambabench.report.rows import Row
    from mambabench.report.statistics.comparison import Comparison

__all__ = ["forest_figures"]

_LEVEL = 0.05


def forest_figures(
    canvas: Canvas, comparisons: Sequence[Comparison], rows: Sequence[Row], baseline: str
) -> list[Any]:
    """Return the figures; right is better, filled differs (Holm over the comparisons of a task).

    Metrics that are no share have no points and are left out.
    """
    falls = {row.metric for row in rows if not row.higher_is_better}
    of: dict[str, dict[str, tuple[Comparison, float]]] = {}
    for one in comparisons:
        if one.difference is None or not metric_of(one.metric).share:
            continue
        name, sign = (one.encoder, 1.0) if one.other == baseline else (one.other, -1.0)
        of.setdefault(name, {})[one.task] = (one, -sign if one.metric in falls else sign)
    if not of:
        return []
    tasks = sorted({task for own in of.values() for task in own}, key=canvas.task)
    encoders = sorted(of)
    size = canvas.size
    columns = min(size.panels, len(encoders))
    height = size.line * (len(tasks) + 5.0)
    lines = max(1, int((size.height - 2 * size.line) / height))
    most = min(MOST_PANELS, lines * columns)
    return [
        _figure(canvas, {name: of[name] for name in encoders[i : i + most]}, tasks, baseline)
        for i in range(0, len(encoders), most)
    ]


def _figure(
    canvas: Canvas,
    of: dict[str, dict[str, tuple[Comparison, float]]],
    tasks: Sequence[str],
    baseline: str,
) -> Any:
    columns = min(canvas.size.panels, len(of))
    lines = math.ceil(len(of) / columns)
    figure = canvas.figure(canvas.size.line * ((len(tasks) + 5.0) * lines + 2.5))
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True, sharex=True)
    for number, panel in enumerate(axes.flat):
        if number >= len(of):
            panel.set_axis_off()
            continue
        encoder = list(of)[number]
        _panel(canvas, panel, of[encoder], tasks, canvas.color(encoder))
        panel.set_title(cut(canvas.name(encoder), 24), loc="left", fontweight="bold", pad=3)
        panel.set_xlabel("points", labelpad=1)
        panel.tick_params(labelbottom=True)
    for line in axes:
        names = cut_apart([canvas.task(task) for task in tasks], 22)
        line[0].set_yticks(range(len(tasks)), names)
        line[0].set_ylim(len(tasks) - 0.5, -0.5)
    text = (
        f"minus {canvas.name(baseline)}, right is better; line: 95 % over test clips; "
        "filled: differs (Holm over the task's comparisons)"
    )
    if canvas.options.figure == "column":
        text = text.replace("; line", ";\nline").replace("; filled", ";\nfilled")
    figure.supxlabel(text, fontsize=canvas.size.font * 0.9, color="#555555")
    return figure


def _panel(
    canvas: Canvas,
    axes: Any,
    own: dict[str, tuple[Comparison, float]],
    tasks: Sequence[str],
    color: str,
) -> None:
    axes.axvline(0, color=GREY, lw=0.8 * canvas.scale, zorder=1)
    axes.grid(axis="x", color=LINE, lw=0.5 * canvas.scale, zorder=0)
    axes.set_axisbelow(True)
    axes.locator_params(axis="x", nbins=5)
    for y, task in enumerate(tasks):
        if task not in own:
            continue
        one, sign = own[task]
        if one.boot_low is not None and one.boot_high is not None:
            ends = [100 * sign * one.boot_low, 100 * sign * one.boot_high]
            axes.plot(ends, [y, y], color=color, lw=0.9 * canvas.scale, zorder=2)
        differs = one.p_holm is not None and one.p_holm < _LEVEL
        axes.plot(100 * sign * (one.difference or 0.0), y, "o", ms=3.6 * canvas.scale, zorder=3,
                  markeredgecolor=color, markerfacecolor=color if differs else "white",
                  markeredgewidth=0.9 * canvas.scale)  # fmt: skip
