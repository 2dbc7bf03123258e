"""``mambabench curves``: plot the loss, rate, evaluations and probes of trainings."""

from __future__ import annotations

from pathlib import Path

import click

from mambabench.cli import options

__all__ = ["command"]


@click.command("curves")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    default=Path("curves.png"),
    show_default=True,
    help="A .png, or a .html with a section for a page.",
)
@options.as_json
def command(runs: tuple[Path, ...], to: Path) -> int:
    """Plot what trainings said of themselves; RUN is a folder with a log.jsonl."""
    from mambabench.train.curves import write_curves

    click.echo(f"written: {write_curves(runs, to)}")
    return 0
