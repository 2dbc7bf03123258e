"""Draw the plots of a large report on two processes: the longest of them while the page is made."""

from __future__ import annotations

import pickle
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mambabench.engine.processes import Report, run_beside
from mambabench.engine.units import Spec
from mambabench.provenance import usable_cores
from mambabench.report.plots.options import PLOTS
from mambabench.report.plots.pages import bring

if TYPE_CHECKING:
    from mambabench.report.plots.options import PlotOptions
    from mambabench.report.rows import Summary

__all__ = ["DrawPlots", "begin_to_draw", "draw_unit"]

DrawPlots = Callable[[], list[Path]]
_LONGEST = "scores"  # takes as long as page and other plots
_WORTH_IT = 300  # rows from which a process of its own pays: it needs a second to start
_HANDED = "summary.pickle"


class _Apart(NamedTuple):
    """Where another process draws, and what waits for the plots that it has drawn."""

    place: Path
    wait: Callable[[], Any]  # None where nothing came of it


@contextmanager
def begin_to_draw(
    folder: Path, summary: Summary, options: PlotOptions, jobs: int | None
) -> Iterator[DrawPlots]:
    """Begin with the longest plots; what is given draws the others and returns all files.

    Of a small report it draws all, and so it does where the other process fails. What that has
    drawn comes to `folder` only then: one that is ended leaves nothing there.
    """
    with ExitStack() as stack:
        apart = None
        if _pays(summary, options, jobs):
            with suppress(OSError):  # no room for temporary files, or for a process
                place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mambabench-")))
                handed = pickle.dumps((replace(summary, runs=()), options))
                (place / _HANDED).write_bytes(handed)
                unit = {"place": str(place)}
                wait = stack.enter_context(run_beside(f"{__name__}:draw_unit", unit))
                apart = _Apart(place, wait)
        yield lambda: _drawn(folder, summary, options, apart)


def _pays(summary: Summary, options: PlotOptions, jobs: int | None) -> bool:
    """Whether plots are worth a process; not where somebody has set matplotlib up in this one."""
    return (
        _LONGEST in options.plots
        and len(summary.rows) >= _WORTH_IT
        and (usable_cores() if jobs is None else jobs) > 1
        and "matplotlib" not in sys.modules
    )


def _drawn(
    folder: Path, summary: Summary, options: PlotOptions, apart: _Apart | None
) -> list[Path]:
    from mambabench.report.plots.draw import draw, draw_some, in_order

    if apart is None:
        return draw(folder, summary, options)
    drawn = draw_some(folder, summary, options, [name for name in PLOTS if name != _LONGEST])
    stems = apart.wait()
    if stems is None:
        drawn |= draw_some(folder, summary, options, [_LONGEST])
    else:
        drawn |= {stem: bring(apart.place, folder, stem) for stem in stems}
    return in_order(drawn, summary)


def draw_unit(unit: Spec, report: Report) -> list[str]:
    """Draw the longest plots of what was handed over; return their stems."""
    from mambabench.report.plots.draw import draw_some

    place = Path(unit["place"])
    summary, options = pickle.loads((place / _HANDED).read_bytes())  # written by this program
    return list(draw_some(place, summary, options, [_LONGEST]))
