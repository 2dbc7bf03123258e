"""Which plots are drawn, how large, and whom they highlight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mambabench.errors import MambabenchError, nearest_names

__all__ = ["FIGURES", "PLOTS", "PlotOptions"]

PLOTS = ("scores", "heat", "ranks", "forest", "cost")
FIGURES = ("column", "page", "slide")


@dataclass(frozen=True)
class PlotOptions:
    """Options of all plots; MambabenchError, with the nearest, for a value that is none."""

    plots: tuple[str, ...] = PLOTS
    figure: str = "page"
    highlight: tuple[str, ...] = ()  # labels; all others are grey
    labels: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # label -> (name, group)

    def __post_init__(self) -> None:
        for name in self.plots:
            if name not in PLOTS:
                raise MambabenchError(
                    f"plot {name!r} is not one of {', '.join(PLOTS)}, all, none"
                    f"{nearest_names(name, (*PLOTS, 'all', 'none'))}"
                )
        if self.figure not in FIGURES:
            raise MambabenchError(
                f"figure {self.figure!r} is not one of {', '.join(FIGURES)}"
                f"{nearest_names(self.figure, FIGURES)}"
            )
