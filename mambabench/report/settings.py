"""What `run` can tell `report`."""

from __future__ import annotations

from dataclasses import dataclass

from mambabench.settings import option

__all__ = ["ReportSettings"]


@dataclass(frozen=True)
class ReportSettings:
    """Options of ``mambabench report`` that ``mambabench run`` has too."""

    format: str = option("terminal", choices="mambabench.report.formats:FORMATS")
    baseline: str | None = option(None, "Compare every encoder with this one only.", metavar="E")
