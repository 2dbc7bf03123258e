"""The sources of all that a report shows, for a paper's bibliography."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mambabench.report.exchange.citations import bibliography
from mambabench.report.formats import Format

if TYPE_CHECKING:
    from mambabench.report.rows import Summary
    from mambabench.report.view import View

__all__ = ["FORMAT"]


def _render(summary: Summary, view: View) -> str:
    return bibliography(summary)


FORMAT = Format("bibtex", _render)
