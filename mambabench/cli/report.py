"""`mambabench report`: print tables with intervals, comparisons and ranks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mambabench.cli import options

if TYPE_CHECKING:
    from mambabench.report.verb import ReportResult

__all__ = ["command", "show_written"]


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
def command(out: tuple[Path, ...], format: str, baseline: str | None) -> int:
    """Print every task's mean, spread and intervals, paired comparisons and overall scores.

    Tables, a page (report.html) and, with matplotlib, plots are written to the first DIR/report.
    Records and predictions that do not hold are refused by name: exit code 1.
    """
    import shutil

    from mambabench.report.verb import report

    color = sys.stdout.isatty()
    width = shutil.get_terminal_size((120, 24)).columns if color else 120
    result = report(out, format, baseline, width=width, color=color)
    click.echo(result.text, nl=False)
    show_written(result, quiet=format != "terminal")
    return 1 if any(run.defects for run in result.summary.runs) else 0


def show_written(result: ReportResult, *, quiet: bool) -> None:
    """Say where the page lies and what was refused; `quiet` keeps standard output clean."""
    if result.note:
        click.echo(f"mambabench: {result.note}", err=True)
    refused = [defect for run in result.summary.runs for defect in run.defects]
    for defect in refused[:20]:
        click.echo(f"refused: {defect}", err=True)
    if len(refused) > 20:
        click.echo(f"and {len(refused) - 20} more: see `mambabench verify`", err=True)
    page = next((file for file in result.files if file.name == "report.html"), None)
    if page is None or quiet:
        return
    drawn = any(file.suffix == ".png" for file in result.files)
    what = (
        "CSV, JSON and plots" if drawn else "CSV and JSON (plots: pip install 'mambabench[plots]')"
    )
    click.echo(f"\n{what} in {page.parent}")
    click.echo(f"page: {page}")
