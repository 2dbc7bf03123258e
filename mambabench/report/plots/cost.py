"""Overall score against cost: a panel a kind of cost, with the front that nobody beats on both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mambabench.report.costs import COLUMNS, front
from mambabench.report.plots.canvas import GREY, LINE, Canvas, cut

if TYPE_CHECKING:
    from mambabench.report.rows import EncoderCost, Summary

__all__ = ["cost_figure", "overall_of"]

_FEWEST = 2  # points that make a picture
_NAMED = 12  # points that have room for their names
_PREFERRED = ("min-max", "min-max, common tasks", "hear-leaderboard")


def overall_of(summary: Summary, protocol: str) -> tuple[str, dict[str, float]]:
    """Return the overall score that is drawn, and every encoder's; "" where there is none."""
    for name in _PREFERRED:
        found = {
            one.encoder: one.score
            for one in summary.overall
            if (one.protocol, one.normalisation) == (protocol, name) and one.score is not None
        }
        if found:
            return name, found
    return "", {}


def cost_figure(
    canvas: Canvas, costs: Sequence[EncoderCost], name: str, scores: Mapping[str, float]
) -> Any | None:
    """Return the figure; None where no kind of cost is known of two encoders with a score."""
    panels = {}
    for kind in COLUMNS:
        points = {
            one.encoder: (cost, scores[one.encoder])
            for one in costs
            if (cost := getattr(one, kind)) is not None and one.encoder in scores
        }
        if len(points) >= _FEWEST:
            panels[kind] = points
    if not panels:
        return None
    size = canvas.size
    columns = 1 if canvas.options.figure == "column" else len(panels)
    lines = -(-len(panels) // columns)
    each = {"column": 2.5, "page": 2.9, "slide": 7.5}[canvas.options.figure]
    figure = canvas.figure(each * lines)
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for panel, (kind, points) in zip(axes.flat, panels.items(), strict=False):
        _panel(canvas, panel, points)
        panel.set_xlabel(COLUMNS[kind])
    for line in axes:
        line[0].set_ylabel(f"overall score ({name})")
        line[0].spines["left"].set_visible(True)
    figure.supxlabel("dashed: nobody is better and cheaper", fontsize=size.font * 0.9,
                     color="#555555")  # fmt: skip
    figure.canvas.draw()  # now every panel has its place
    for panel, points in zip(axes.flat, panels.values(), strict=False):
        _names(canvas, panel, points)
    return figure


def _panel(canvas: Canvas, axes: Any, points: Mapping[str, tuple[float, float]]) -> None:
    axes.set_xscale("log")
    best = front(points)
    axes.plot(*zip(*(points[one] for one in best), strict=True), "--", color=GREY, lw=canvas.scale,
              zorder=1)  # fmt: skip
    for encoder, (cost, score) in points.items():
        filled = canvas.color(encoder) if encoder in best else "white"
        axes.plot(cost, score, "o", ms=4.5 * canvas.scale, zorder=3, markerfacecolor=filled,
                  markeredgecolor=canvas.color(encoder), markeredgewidth=canvas.scale)  # fmt: skip
    axes.margins(x=0.25, y=0.12)
    axes.grid(color=LINE, lw=0.5 * canvas.scale, zorder=0)
    axes.set_axisbelow(True)


def _names(canvas: Canvas, axes: Any, points: Mapping[str, tuple[float, float]]) -> None:
    """Write names beside their points, where the fewest others lie.

    Above twelve encoders only those of the front and the highlighted are named.
    """
    named = list(points) if len(points) <= _NAMED else front(points)
    named += [one for one in canvas.options.highlight if one in points]
    font = canvas.size.font * 0.85
    per_point = axes.figure.dpi / 72
    half = 3 * canvas.scale * per_point
    taken = [
        (x - half, y - half, x + half, y + half)
        for x, y in map(axes.transData.transform, points.values())
    ]
    frame = axes.get_window_extent()
    for encoder in sorted(set(named), key=lambda one: (-points[one][1], one)):
        point = points[encoder]
        text = cut(canvas.name(encoder), 20)
        width, height = 0.6 * font * len(text) * per_point, 1.1 * font * per_point
        x, y = axes.transData.transform(point)
        spots = [
            (x - width / 2, y + 1.5 * half), (x - width / 2, y - 1.5 * half - height),
            (x + 2 * half, y - height / 2), (x - 2 * half - width, y - height / 2),
        ]  # fmt: skip
        boxes = [(left, low, left + width, low + height) for left, low in spots]
        inside = [b for b in boxes if frame.x0 <= b[0] and b[2] <= frame.x1 + 2 * half]
        box = min(inside or boxes, key=lambda b: sum(_common(b, other) for other in taken))
        taken.append(box)
        away = ((box[0] + box[2]) / 2 - x) / per_point, ((box[1] + box[3]) / 2 - y) / per_point
        axes.annotate(text, point, xytext=away, textcoords="offset points", ha="center",
                      va="center", fontsize=font, weight=canvas.weight(encoder), zorder=4,
                      in_layout=False)  # fmt: skip


def _common(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the area that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)
