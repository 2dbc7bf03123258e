"""What `run` and configuration files can tell `report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mambabench.settings import option

__all__ = ["ReportSettings", "TableSettings"]


@dataclass(frozen=True)
class ReportSettings:
    """Options of ``mambabench report`` that ``mambabench run`` has too."""

    format: str = option("terminal", choices="mambabench.report.formats:FORMATS")
    baseline: str | None = option(None, "Compare every encoder with this one only.", metavar="E")


@dataclass(frozen=True)
class TableSettings:
    """Keywords of ``mambabench.report`` that a configuration file may have besides."""

    table: str = option("matrix", choices="mambabench.report.view:TABLES")
    rows: str = option("encoders", choices="mambabench.report.view:ROWS")
    interval: str = option("clips", choices="mambabench.report.view:INTERVALS")
    sort: str = option("rank")
    digits: int = option(1, minimum=0)
    names: Path | None = option(None)  # noqa: RUF009 (a field)
    published: int = option(5, minimum=0)
    columns: int | None = option(None, minimum=1)
    export: tuple[str, ...] = option((), choices="mambabench.report.written:EXPORTS")
    page_clips: str = option("auto", choices="mambabench.report.written:PAGE_CLIPS")
