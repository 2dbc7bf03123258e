"""`mambabench report`: print tables with intervals, comparisons and ranks."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mambabench.cli import options

__all__ = ["command"]


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
    if result.note:
        click.echo(f"mambabench: {result.note}", err=True)
    elif format == "terminal":
        page = next((file for file in result.files if file.name == "report.html"), None)
        click.echo(f"\nWritten to {page.parent if page else out[0]}: report.html, CSV, JSON, plots")
    defects = [defect for run in result.summary.runs for defect in run.defects]
    for defect in defects[:20]:
        click.echo(f"refused: {defect}", err=True)
    if len(defects) > 20:
        click.echo(f"and {len(defects) - 20} more: see `mambabench verify`", err=True)
    return 1 if defects else 0
