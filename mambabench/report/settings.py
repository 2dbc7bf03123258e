"""What `report` can be told, declared once."""

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
    """The other options of ``mambabench report``: of a configuration file the table [report].

    The first five choose, the next say how tables look, the last what is written.
    """

    task: tuple[str, ...] = option((), "Only these tasks. Repeatable.", metavar="GLOB")
    encoder: tuple[str, ...] = option((), "Only these encoders. Repeatable.", metavar="GLOB")
    protocol: tuple[str, ...] = option((), "Only these protocols. Repeatable.", metavar="GLOB")
    seeds: int | None = option(None, "Only seeds 0 to N - 1.", metavar="N", minimum=1)
    to: Path | None = option(  # noqa: RUF009 (a field)
        None,
        "Write page, tables and plots here, those of a choice too.  [default: OUT/report]",
        metavar="DIR",
    )
    table: str = option(
        "matrix",
        "Encoders by tasks, or a row for every score with all that is known of it.",
        choices="mambabench.report.view:TABLES",
    )
    rows: str = option(
        "encoders", "What a line of the matrix is.", choices="mambabench.report.view:ROWS"
    )
    interval: str = option(
        "clips",
        "What ± is half of; sd: the standard deviation over seeds.",
        choices="mambabench.report.view:INTERVALS",
    )
    sort: str = option("rank", "Order of the encoders.", metavar="SCORE|TASK|name")
    digits: int = option(
        1, "Decimals of percent; what is no percent has two more.", minimum=0, maximum=6
    )
    names: Path | None = option(  # noqa: RUF009 (a field)
        None,
        "Columns label, name and perhaps group: how encoders and tasks are called.",
        metavar="FILE.csv",
    )
    published: int = option(5, "Rows of published results below ours, at most.", minimum=0)
    columns: int | None = option(
        None,
        "Columns of one block of the matrix.  [default: as many as fit]",
        called="width",
        metavar="N",
        minimum=1,
    )
    export: tuple[str, ...] = option(
        (),
        "Write the files of these tools too.",
        choices="mambabench.report.written:EXPORTS",
        metavar="hear-eval-kit,ssam",
        commas=True,
    )
    page_clips: str = option(
        "auto",
        "Whether the page holds every clip; auto: while it stays small.",
        choices="mambabench.report.written:PAGE_CLIPS",
    )
    with_audio: int = option(
        0,
        "The page plays the N hardest clips of each task: 5 s each, 10 MB in all at most.",
        metavar="N",
        minimum=0,
    )
    tasks: tuple[str, ...] = option(
        (),
        "Where that sound lies: a task directory or a parent of several. Repeatable.  "
        "[default: OUT/tasks]",
        metavar="DIR",
    )
    plot: tuple[str, ...] = option(
        ("all",),
        "Plots to draw: scores, heat, ranks, forest, cost; all that there are numbers for, none.",
        metavar="NAME,...",
        commas=True,
    )
    figure: str = option(
        "page", "What plots are sized for.", choices="mambabench.report.plots.options:FIGURES"
    )
    highlight: tuple[str, ...] = option(
        (),
        "In plots these encoders in colour, all others grey. Repeatable.",
        metavar="GLOB",
    )
    costs: Path | None = option(  # noqa: RUF009 (a field)
        None,
        "Columns encoder and any of parameters, gflops, seconds (for a second of audio).",
        metavar="FILE.csv",
    )
