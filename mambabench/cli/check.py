"""``mambabench check``: the strict validator of a provider."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from mambabench.cli import completion, options, shown_whole
from mambabench.errors import EncoderError

__all__ = ["command"]


@click.command(name="check")
@click.argument("encoder", metavar="E", required=False, shell_complete=completion.encoders)
@options.device
@click.option(
    "--long-s",
    type=click.FloatRange(min=5.0),
    default=60.0,
    show_default=True,
    help="Length in seconds of the clip on which timestamps must not drift; less is quicker.",
)
@click.option(
    "--python",
    type=click.Path(path_type=Path),
    default=None,
    metavar="PATH",
    help="Interpreter in which a .py file runs.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON only.")
@click.option(
    "--template",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    metavar="FILE.py",
    help="Write a commented provider that passes, to start from, instead.",
)
@options.traceback
def command(
    encoder: str | None,
    device: str,
    long_s: float,
    python: Path | None,
    as_json: bool,
    template: Path | None,
) -> int:
    """Check the provider E strictly: a table of checks, exit code 1 where one fails.

    E is a registered name, a dotted module or the path of a .py file; E@PATH adds a checkpoint.
    """
    if template is not None:
        return _write_template(encoder, template)
    if encoder is None:
        raise click.UsageError("name the provider E, or write one with --template FILE.py")
    from mambabench.hear_api.check import check

    def whole(error: EncoderError) -> None:
        if error.traceback and shown_whole():
            print(error.traceback, file=sys.stderr)

    report = check(encoder, device=device, long_s=long_s, python=python, on_error=whole)
    if as_json:
        print(json.dumps(report.to_json(), indent=2))
        return 0 if report.passed else 1
    from rich.console import Console
    from rich.table import Table

    colours = {"pass": "green", "warn": "yellow", "fail": "bold red", "not run": "dim"}
    table = Table(title=f"{report.encoder} on {report.device}", title_justify="left")
    for heading in ("check", "result", "measured", "limit", "finding"):
        table.add_column(heading, overflow="fold")
    for c in report.checks:
        numbers = ["" if v is None else f"{v:.3g}" for v in (c.value, c.limit)]
        table.add_row(c.name, f"[{colours[c.status]}]{c.status}[/]", *numbers, _plain(c.message))
    # without a terminal nothing must be folded away
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    n_failed = sum(c.status == "fail" for c in report.checks)
    n_left = sum(c.status == "not run" for c in report.checks)
    console.print("passed" if report.passed else f"{n_failed} failed, {n_left} not run")
    return 0 if report.passed else 1


def _write_template(encoder: str | None, template: Path) -> int:
    if encoder is not None:
        raise click.UsageError("--template writes a file and checks none: leave E out")
    from mambabench.hear_api.template import write_template

    write_template(template)
    click.echo(f"{template}: put your network into it; then `mambabench check {template}`")
    return 0


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
