"""Sizes, fonts and colours that all plots share; figures to files of equal bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mambabench.files import atomic_write
from mambabench.report.names import short_task
from mambabench.report.plots.options import PlotOptions
from mambabench.report.plots.pages import page_stem, remove_pages

__all__ = ["GREY", "LINE", "ONE", "Canvas", "cut", "cut_apart", "save"]

ONE, GREY, LINE = "#0072b2", "#767676", "#d9d9d9"
# Okabe and Ito's colours: told apart with any colour vision
_HIGHLIGHTS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#000000")


@dataclass(frozen=True)
class _Size:
    """A place that a figure is made for, in inches and points."""

    width: float
    height: float  # at most
    font: float
    line: float  # between the names of two encoders
    panels: int  # side by side, at most
    dpi: int


_SIZES = {
    "column": _Size(3.35, 8.6, 6.5, 0.125, 2, 300),  # 85 mm: IEEE, Interspeech
    "page": _Size(6.9, 8.6, 7.0, 0.135, 4, 200),  # 175 mm, leaving room for a caption
    "slide": _Size(13.33, 7.5, 13.0, 0.25, 4, 150),  # 16 to 9
}


class Canvas:
    """What a plot draws with: the size asked for, names and colours."""

    def __init__(self, options: PlotOptions) -> None:
        self.options = options
        self.size = _SIZES[options.figure]
        self._style: Any = {
            "font.size": self.size.font,
            "axes.titlesize": self.size.font,
            "axes.labelsize": self.size.font,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.spines.left": False,
            "axes.linewidth": 0.6,
            "xtick.major.width": 0.6,
            "xtick.labelsize": self.size.font * 0.9,
            "ytick.labelsize": self.size.font,
            "ytick.major.size": 0,
            "pdf.fonttype": 42,  # text stays text
            "svg.hashsalt": "mambabench",
        }

    @property
    def scale(self) -> float:
        """How much larger than on a page marks and lines are."""
        return self.size.font / 7.0

    def style(self) -> Any:
        """Return the context in which a figure is made and saved."""
        return mpl.rc_context(self._style)

    def figure(self, height: float, layout: str | None = "constrained") -> Any:
        """Return a figure of the size's width and this height in inches, at most the size's."""
        figure: Any = Figure(layout=layout)  # type: ignore[arg-type]
        FigureCanvasAgg(figure)
        figure.set_size_inches(self.size.width, min(height, self.size.height))
        return figure

    def name(self, label: str) -> str:
        """Return an encoder's name as printed."""
        return self.options.labels.get(label, (label, ""))[0]

    def task(self, task: str) -> str:
        """Return a task's name as printed."""
        return self.options.labels.get(task, (short_task(task), ""))[0]

    def color(self, encoder: str) -> str:
        """Return an encoder's colour: one for all, or that of the highlighted and grey."""
        chosen = self.options.highlight
        if not chosen:
            return ONE
        return _HIGHLIGHTS[chosen.index(encoder) % len(_HIGHLIGHTS)] if encoder in chosen else GREY

    def weight(self, encoder: str) -> str:
        """Return the weight of an encoder's name."""
        return "bold" if encoder in self.options.highlight else "normal"

    def label_rows(self, axes: Any, encoders: Sequence[str], letters: int = 30) -> None:
        """Write the encoders' names down the y axis, the first one on top."""
        axes.set_yticks(
            range(len(encoders)), cut_apart([self.name(one) for one in encoders], letters)
        )
        axes.set_ylim(len(encoders) - 0.5, -0.5)
        if self.options.highlight:
            for text, encoder in zip(axes.get_yticklabels(), encoders, strict=True):
                text.set_color(self.color(encoder))
                text.set_weight(self.weight(encoder))


def cut(text: str, letters: int, front: int | None = None) -> str:
    """Return a name with its middle left out where it is longer than so many letters.

    `front` is how many stay before what is left out, half of them by default.
    """
    if len(text) <= letters:
        return text
    front = (letters - 1) // 2 + 1 if front is None else front
    return f"{text[:front]}…{text[len(text) - (letters - 1 - front) :]}"


def cut_apart(names: Sequence[str], letters: int) -> list[str]:
    """Return the names cut like `cut`, but that two that differ stay different.

    Those that would look alike keep more of their front, then less; or all of it in the end.
    """
    found = {name: cut(name, letters) for name in names}
    seen = Counter(found.values())
    alike = [name for name, short in found.items() if seen[short] > 1]
    for front in range(letters - 1, -1, -1):
        tried = found | {name: cut(name, letters, front) for name in alike}
        if len(set(tried.values())) == len(tried):
            return [tried[name] for name in names]
    return list(names)


def save(canvas: Canvas, folder: Path, stem: str, figures: Sequence[Any]) -> list[Path]:
    """Write figures as STEM.pdf and .png, STEM-2.pdf ..., and return the files.

    Files of more pages that an earlier report has left are removed: nobody shall take them for this
    report's.
    """
    written = []
    for number, figure in enumerate(figures, 1):
        for suffix, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
            path = folder / f"{page_stem(stem, number)}.{suffix}"
            with canvas.style():
                atomic_write(
                    path,
                    lambda file, s=suffix, m=metadata, f=figure: f.savefig(  # type: ignore[misc]
                        file, format=s, dpi=canvas.size.dpi, metadata=m
                    ),
                )
            written.append(path)
    remove_pages(folder, stem, len(figures))
    return written
