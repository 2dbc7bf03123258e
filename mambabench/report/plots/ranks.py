"""Demsar's critical-difference diagram: mean ranks on an axis, bars join what does not differ."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from mambabench.report.plots.canvas import Canvas, cut

if TYPE_CHECKING:
    from mambabench.report.together import Standing

__all__ = ["lanes", "rank_figure"]


def lanes(groups: tuple[tuple[int, int], ...], gap: tuple[float, ...]) -> list[int]:
    """Return the lane of every group: bars whose places touch stand below each other.

    `gap` are the mean ranks by place.
    """
    ends: list[float] = []
    result = []
    for first, last in groups:
        lane = next((i for i, end in enumerate(ends) if gap[first] > end + 0.15), len(ends))
        if lane == len(ends):
            ends.append(0.0)
        ends[lane] = gap[last]
        result.append(lane)
    return result


def rank_figure(canvas: Canvas, standing: Standing) -> Any:
    """Return the diagram of one protocol."""
    ranks, count = standing.ranks, len(standing.ranks)
    half = (count + 1) // 2
    places = tuple(one.rank for one in ranks)
    lane = lanes(standing.groups, places)
    bars = 0.7 * (max(lane, default=-1) + 1) + 0.5
    note = textwrap.wrap(standing.note, int(canvas.size.width * 72 / canvas.size.font * 1.9))
    rows = 2.2 + bars + 1.15 * half + len(note) + 0.6  # in lines of text
    line = canvas.size.line * 1.05
    figure = canvas.figure(rows * line, layout=None)
    axes = figure.add_axes([0.01, 0.0, 0.98, 1.0])
    axes.set_axis_off()
    letters = 14 if canvas.options.figure == "column" else 28
    side = _side(canvas, standing, letters)
    axes.set_xlim(1 - side, count + side)
    axes.set_ylim(rows, 0)
    width = 0.8 * canvas.scale
    _axis(axes, count, width)
    for (first, last), own in zip(standing.groups, lane, strict=True):
        y = 2.2 + 0.7 * own + 0.4
        reach = 0.008 * count
        axes.plot([places[first] - reach, places[last] + reach], [y, y], color="black",
                  lw=3.2 * width, solid_capstyle="butt", zorder=3)  # fmt: skip
    for place, one in enumerate(ranks):
        left = place < half
        y = 2.2 + bars + 1.15 * (place if left else count - 1 - place) + 0.4
        color = canvas.color(one.encoder) if canvas.options.highlight else "black"
        edge = 1 - 0.02 * (count - 1) if left else count + 0.02 * (count - 1)
        axes.plot([one.rank, one.rank, edge], [2.2, y, y], color=color, lw=width, zorder=2)
        name, number = cut(canvas.name(one.encoder), letters), f"{one.rank:.2f}"
        text = f"{name}  {number}" if left else f"{number}  {name}"
        away = -0.01 * (count - 1) if left else 0.01 * (count - 1)
        axes.text(edge + away, y, text, ha="right" if left else "left", va="center", color=color,
                  weight=canvas.weight(one.encoder))  # fmt: skip
    axes.text(1 - side, rows - 0.3, "\n".join(note), va="bottom", color="#555555",
              fontsize=canvas.size.font * 0.9)  # fmt: skip
    return figure


def _side(canvas: Canvas, standing: Standing, letters: int) -> float:
    """Return the room for names on either side of the axis, in ranks."""
    longest = max(len(cut(canvas.name(one.encoder), letters)) for one in standing.ranks)
    wide = 0.74 if canvas.options.highlight else 0.6  # of a letter, in the font's size
    inches = (wide * (longest + 7)) * canvas.size.font / 72
    axis = max(canvas.size.width - 2 * inches, 0.2 * canvas.size.width)
    return inches / axis * (len(standing.ranks) - 1)


def _axis(axes: Any, count: int, width: float) -> None:
    """Draw the axis of mean ranks, 1 on the left, with its numbers above it."""
    axes.plot([1, count], [2.2, 2.2], color="black", lw=width)
    step = max(1, round(count / 10))
    marks = [1, *range(step if step > 1 else 2, count, step), count]
    for mark in sorted(
        {m for m in marks if m in (1, count) or 1 + step / 2 < m < count - step / 2}
    ):
        axes.plot([mark, mark], [1.8, 2.2], color="black", lw=width)
        axes.text(mark, 1.65, str(mark), ha="center", va="bottom")
    axes.text((1 + count) / 2, 0.15, "mean rank over the tasks", ha="center", va="top",
              color="#555555")  # fmt: skip
