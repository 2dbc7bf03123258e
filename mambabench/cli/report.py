"""`mambabench report`: print tables with intervals, comparisons and ranks."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mambabench.cli import options
from mambabench.cli.lines import plain_text, print_wrapped
from mambabench.cli.progress import Display
from mambabench.report.settings import ReportSettings, TableSettings
from mambabench.settings import option_names, settings_of

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
@options.of_settings(ReportSettings)
@options.of_settings(TableSettings)
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
@options.jobs
@options.engine
@options.per_node
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def command(
    out: tuple[Path, ...],
    format: str,
    as_json: bool,
    baseline: str | None,
    gate: bool,
    margin: float | None,
    jobs: int | None,
    engine: str,
    per_node: int | None,
    **table: Any,
) -> int:
    """Print the matrix of encoders and tasks, with intervals, tests, ranks and overall scores.

    Tables, a page (report.html) and, with matplotlib, plots are written to the first DIR/report;
    of a choice (--task, --encoder, --protocol, --seeds) only with --to.

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
    told = settings_of(TableSettings, table)
    color = sys.stdout.isatty()
    width = shutil.get_terminal_size((120, 24)).columns if color else 120
    with Display() as display:
        result = report(
            out,
            format,
            baseline,
            progress=display.report,
            jobs=jobs,
            engine=engine,
            per_node=per_node,
            width=width,
            color=color,
            **{name: getattr(told, name) for name in option_names(TableSettings)},
        )
    echo(result.data or result.text)
    show_written(result, quiet=format != "terminal")
    failed = bool(result.summary.defects or result.summary.left_out)
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
        print_wrapped(f"mambabench: {result.note}", err=True)
    refused = result.summary.defects
    for defect in refused[:20]:
        print_wrapped(f"refused: {defect}", err=True)
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
