"""`mambabench report`: print tables with intervals, comparisons and ranks."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mambabench.cli import options, plain_text
from mambabench.cli.progress import Display

if TYPE_CHECKING:
    from mambabench.report.verb import ReportResult

__all__ = ["command", "echo", "show_written"]


@click.command(name="report")
@click.option(
    "--out",
    multiple=True,
    type=click.Path(path_type=Path),
    default=(Path("mambabench-out"),),
    metavar="DIR",
    help="Output folder of probe, of hear-eval-kit, or a todo_audioset tree. Repeatable: the "
    "union is reported.  [default: mambabench-out]",
)
@options.format_
@options.baseline
@click.option(
    "--table",
    type=options.Named(["matrix", "long"]),
    default="matrix",
    show_default=True,
    help="Encoders by tasks, or a row for every score with all that is known of it.",
)
@click.option(
    "--rows",
    type=options.Named(["encoders", "tasks"]),
    default="encoders",
    show_default=True,
    help="What a line of the matrix is.",
)
@click.option(
    "--interval",
    type=options.Named(["clips", "seeds", "sd"]),
    default="clips",
    show_default=True,
    help="What ± is half of; sd: the standard deviation over seeds.",
)
@click.option("--task", multiple=True, metavar="GLOB", help="Only these tasks. Repeatable.")
@click.option("--encoder", multiple=True, metavar="GLOB", help="Only these encoders. Repeatable.")
@click.option(
    "--sort",
    default="rank",
    show_default=True,
    metavar="SCORE|TASK|name",
    help="Order of the encoders.",
)
@click.option(
    "--digits",
    type=click.IntRange(0, 6),
    default=1,
    show_default=True,
    help="Decimals of percent; what is no percent has two more.",
)
@click.option(
    "--names",
    type=click.Path(path_type=Path),
    metavar="FILE.csv",
    help="Columns label, name and perhaps group: how encoders and tasks are called.",
)
@click.option(
    "--published",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Rows of published results below ours, at most.",
)
@click.option(
    "--width",
    "columns",
    type=click.IntRange(min=1),
    help="Columns of one block of the matrix.  [default: as many as fit]",
)
@click.option(
    "--export",
    metavar="hear-eval-kit,ssam",
    default="",
    help="Write the files of these tools too.",
)
@click.option(
    "--gate",
    is_flag=True,
    help="With --baseline: exit with 1, naming what dropped, if an encoder is worse than it.",
)
@click.option(
    "--margin",
    type=click.FloatRange(min=0),
    metavar="POINTS",
    help="With --gate: worse by more than this is a drop too, significant or not.",
)
@click.option(
    "--page-clips",
    type=options.Named(["auto", "all", "none"]),
    default="auto",
    show_default=True,
    help="Whether the page holds every clip; auto: while it stays small.",
)
@click.option(
    "--plot",
    metavar="NAME,...",
    default="all",
    show_default=True,
    help="Plots to draw: scores, heat, ranks, forest, cost; all that there are numbers for, none.",
)
@click.option(
    "--figure",
    type=options.Named(["column", "page", "slide"]),
    default="page",
    show_default=True,
    help="What plots are sized for.",
)
@click.option(
    "--highlight",
    multiple=True,
    metavar="GLOB",
    help="In plots these encoders in colour, all others grey. Repeatable.",
)
@click.option(
    "--costs",
    type=click.Path(path_type=Path),
    metavar="FILE.csv",
    help="Columns encoder and any of parameters, gflops, seconds (for a second of audio).",
)
@options.jobs
@options.engine
@options.per_node
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def command(
    out: tuple[Path, ...],
    format: str,
    as_json: bool,
    baseline: str | None,
    task: tuple[str, ...],
    encoder: tuple[str, ...],
    names: Path | None,
    export: str,
    page_clips: str,
    plot: str,
    figure: str,
    highlight: tuple[str, ...],
    costs: Path | None,
    gate: bool,
    margin: float | None,
    jobs: int | None,
    engine: str,
    per_node: int | None,
    **view: Any,
) -> int:
    """Print the matrix of encoders and tasks, with intervals, tests, ranks and overall scores.

    Tables, a page (report.html) and, with matplotlib, plots are written to the first DIR/report,
    unless --task or --encoder choose a part.

    Records and predictions that do not hold are refused by name: exit code 1.
    """
    import shutil

    from mambabench.report.verb import report

    if gate and baseline is None:
        raise click.UsageError("--gate needs --baseline E: worse than what?")
    if margin is not None and not gate:
        raise click.UsageError("--margin needs --gate")
    format = "json" if as_json else format
    refuse_terminal(format)
    color = sys.stdout.isatty()
    width = shutil.get_terminal_size((120, 24)).columns if color else 120
    with Display() as display:
        result = report(
            out,
            format,
            baseline,
            task=task,
            encoder=encoder,
            names=names,
            export=tuple(filter(None, export.split(","))),
            page_clips=page_clips,
            plot=tuple(filter(None, plot.split(","))),
            figure=figure,
            highlight=highlight,
            costs=costs,
            progress=display.report,
            jobs=jobs,
            engine=engine,
            per_node=per_node,
            width=width,
            color=color,
            **view,
        )
    echo(result.data or result.text)
    show_written(result, quiet=format != "terminal")
    failed = bool(result.summary.defects)
    dropped = _gate(result, margin) if gate else 0
    return 1 if failed or dropped else 0


def _gate(result: ReportResult, margin: float | None) -> int:
    """Say what is worse than the baseline; 1 if anything is."""
    from mambabench.report.gate import drops, drops_text

    found = drops(result.summary, margin)
    click.echo(drops_text(found, result.summary.baseline or ""), nl=False, err=True)
    return 1 if found else 0


def refuse_terminal(format: str) -> None:
    """Raise click.UsageError where a binary format would be printed on a terminal."""
    from mambabench.report.formats import FORMATS

    if sys.stdout.isatty() and format in FORMATS and FORMATS[format].binary:
        raise click.UsageError(
            f"--format {format} is no text: write it to a file, with > scores.{format}"
        )


def echo(text: str | bytes) -> None:
    """Print a table; letters that the terminal's encoding lacks are replaced by plain ones."""
    click.echo(plain_text(text) if isinstance(text, str) else text, nl=False)


def show_written(result: ReportResult, *, quiet: bool) -> None:
    """Say where the page lies and what was refused; `quiet` keeps standard output clean."""
    if result.note:
        click.echo(f"mambabench: {result.note}", err=True)
    refused = result.summary.defects
    for defect in refused[:20]:
        click.echo(f"refused: {defect}", err=True)
    if len(refused) > 20:
        click.echo(f"and {len(refused) - 20} more: see `mambabench verify`", err=True)
    if quiet or not result.files:
        return
    folder = result.files[0].parent
    plots = [file.stem for file in result.files if file.suffix == ".png"]
    tables = "CSV and JSON" if any(file.suffix == ".csv" for file in result.files) else ""
    missing = importlib.util.find_spec("matplotlib") is None
    more = " (plots: pip install 'mambabench[plots]')" if missing else ""
    for line in (f"\n{tables + more or 'written'} in {folder}", _drawn(plots)):
        if line:
            click.echo(line)
    page = next((file for file in result.files if file.name == "report.html"), None)
    if page is not None:
        click.echo(f"page: {page}")


def _drawn(plots: Sequence[str]) -> str:
    """Name the plots that were drawn, as files without their suffixes."""
    return f"plots (PDF and PNG): {', '.join(plots)}" if plots else ""
