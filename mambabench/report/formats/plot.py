"""Plots of scores with intervals, one figure a protocol, for print: PDF and PNG."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.files import atomic_write
from mambabench.report.formats.tables import tables_of, unit
from mambabench.store.records import protocol_folder

if TYPE_CHECKING:
    from mambabench.report.rows import Row, Summary

__all__ = ["draw", "plot_files"]

# Okabe and Ito's colours: told apart with any colour vision; shapes help in grey
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
_SHAPES = ("o", "s", "D", "^", "v", "P", "X")
_STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7.5,
    "ytick.major.size": 0,
    "pdf.fonttype": 42,  # text stays text
    "svg.hashsalt": "mambabench",
}


def plot_files(folder: Path, summary: Summary) -> list[Path]:
    """Return the files that `draw` writes."""
    return [
        folder / f"scores.{protocol_folder(protocol)}.{suffix}"
        for protocol, tasks in tables_of(summary.rows)
        if any(row.mean is not None for own in tasks for row in own)
        for suffix in ("pdf", "png")
    ]


def draw(folder: Path, summary: Summary) -> list[Path]:
    """Draw one figure a protocol into `folder`; needs matplotlib (the extra `plots`)."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    written = []
    with mpl.rc_context(_STYLE):
        for protocol, tasks in tables_of(summary.rows):
            panels = [known for own in tasks if (known := [r for r in own if r.mean is not None])]
            if not panels:
                continue
            figure: Any = Figure(layout="constrained")
            FigureCanvasAgg(figure)
            _figure(figure, panels)
            for suffix, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
                path = folder / f"scores.{protocol_folder(protocol)}.{suffix}"
                atomic_write(
                    path,
                    lambda file, s=suffix, m=metadata, f=figure: f.savefig(  # type: ignore[misc]
                        file, format=s, dpi=200, metadata=m
                    ),
                )
                written.append(path)
    return written


def _figure(figure: Any, panels: Sequence[Sequence[Row]]) -> None:
    """Lay out a panel per task, at most four side by side, encoders in one order in all of them."""
    encoders = _in_order(panels)
    columns = min(4, len(panels))
    lines = math.ceil(len(panels) / columns)
    height = 0.62 + 0.17 * len(encoders)
    figure.set_size_inches(1.2 + 1.75 * columns, lines * height + 0.25)
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for number, panel in enumerate(axes.flat):
        if number < len(panels):
            _panel(panel, panels[number], encoders)
        else:
            panel.set_axis_off()
    for line in axes:
        line[0].set_yticks(range(len(encoders)), encoders)
        line[0].set_ylim(len(encoders) - 0.5, -0.5)
    figure.supxlabel(
        "dot: mean over seeds    thin line: 95 % over test clips (bootstrap)    "
        "pale bar: 95 % over seeds (t)",
        fontsize=6.5,
        color="#555555",
    )


def _in_order(panels: Sequence[Sequence[Row]]) -> list[str]:
    """Encoders by their mean rank over the tasks that they have, best first."""
    ranks: dict[str, list[int]] = {}
    for rows in panels:  # already best first
        for rank, row in enumerate(rows):
            ranks.setdefault(row.encoder, []).append(rank)
    return sorted(ranks, key=lambda name: (sum(ranks[name]) / len(ranks[name]), name))


def _panel(axes: Any, rows: Sequence[Row], encoders: Sequence[str]) -> None:
    first = rows[0]
    share = unit(first.metric, True) != ""
    scale = 100.0 if share else 1.0
    there = {row.encoder: row for row in rows}
    for y, encoder in enumerate(encoders):
        color = _COLORS[y % len(_COLORS)]
        row = there.get(encoder)
        if row is None or row.mean is None:
            axes.text(0.5, y, "missing", ha="center", va="center", fontsize=6, color="#999999",
                      transform=axes.get_yaxis_transform())  # fmt: skip
            continue
        for low, high, width, alpha in (
            (row.ci95_low, row.ci95_high, 4.0, 0.35),
            (row.boot_low, row.boot_high, 0.9, 1.0),
        ):
            if low is not None and high is not None:
                axes.plot([scale * low, scale * high], [y, y], color=color, lw=width, alpha=alpha,
                          solid_capstyle="butt", zorder=2)  # fmt: skip
        axes.plot(scale * row.mean, y, _SHAPES[y % len(_SHAPES)], color=color, ms=3.2, zorder=3,
                  markeredgecolor="white", markeredgewidth=0.5)  # fmt: skip
    axes.set_title(_short(first.task), loc="left", fontweight="bold", pad=3)
    axes.set_xlabel(first.metric + unit(first.metric, first.higher_is_better), labelpad=1)
    axes.grid(axis="x", color="#e5e5e5", lw=0.5, zorder=0)
    axes.margins(x=0.12)
    axes.locator_params(axis="x", nbins=4)


def _short(task: str) -> str:
    """Return a directory's name without version and "full": what fits above a panel."""
    name = re.sub(r"-(v?\d+(\.\d+)*|hear2021|full)(?=-|$)", "", task).removeprefix("tfds_")
    return name if len(name) <= 24 else name[:23] + "…"
