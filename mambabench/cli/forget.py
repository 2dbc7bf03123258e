"""``mambabench forget``: take wrong results away."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mambabench.cli import options

if TYPE_CHECKING:
    from mambabench.verification.forget import Forgotten

__all__ = ["command"]


@click.command("forget")
@click.option("--encoder", multiple=True, metavar="E", help="Only of this encoder. Repeatable.")
@click.option("--task", multiple=True, metavar="NAME", help="Only of this task. Repeatable.")
@click.option(
    "--protocol",
    multiple=True,
    metavar="P",
    help="Only records of this protocol; embeddings stay. Repeatable.",
)
@options.one_out
@click.option("--records-only", is_flag=True, help="Keep the embeddings.")
@click.option("--delete", is_flag=True, help="Delete instead of moving to DIR/set-aside/<time>.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; needs --yes.")
def command(
    encoder: tuple[str, ...],
    task: tuple[str, ...],
    protocol: tuple[str, ...],
    out: Path,
    records_only: bool,
    delete: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Take away results that fit all that is named: records, and their embeddings.

    They are shown first, and moved aside if you agree. Do not use it while another command works
    in the folder.
    """
    from mambabench.verification.forget import forget, to_forget

    chosen = (encoder, task, protocol, out)
    found = to_forget(*chosen, records_only=records_only)
    n_records = found.n_records
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise click.UsageError("nobody is there to be asked: give --yes")
        _show(found)
        click.confirm("Delete these?" if delete else "Move these aside?", abort=True)
    done = forget(*chosen, records_only=records_only, delete=delete)
    if as_json:
        click.echo(json.dumps(_body(done, n_records), indent=2))
    else:
        stores = f"{len(done.stores)} stores of embeddings"
        where = "deleted" if done.moved_to is None else f"moved to {done.moved_to}"
        click.echo(f"{n_records} records and {stores} {where}")
    return 0


def _show(found: Forgotten) -> None:
    for path in found.stores:
        click.echo(f"embeddings: {path}")
    for path in found.probes:
        click.echo(f"records: {path}")
    click.echo(f"{found.n_records} records, {len(found.stores)} stores of embeddings")


def _body(done: Forgotten, n_records: int) -> dict[str, object]:
    return {
        "schema": "mambabench.forget/1",
        "out": str(done.out),
        "n_records": n_records,
        "stores": [str(path) for path in done.stores],
        "probes": [str(path) for path in done.probes],
        "moved_to": None if done.moved_to is None else str(done.moved_to),
    }
