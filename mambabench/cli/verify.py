"""``mambabench verify``: check everything below an output folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mambabench.cli import options

if TYPE_CHECKING:
    from mambabench.verification.verb import Verified

__all__ = ["command"]


@click.command("verify")
@options.one_out
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--fix", is_flag=True, help="Move what was found to DIR/set-aside/<time>.")
def command(out: Path, as_json: bool, fix: bool) -> int:
    """Check everything below an output folder and say what to delete.

    Exit code 0 if nothing is wrong (or --fix moved all of it aside), 1 if something is. Do not use
    --fix while another command works in the folder.
    """
    from mambabench.verification.verb import verify

    found = verify(out, fix=fix)
    if as_json:
        click.echo(json.dumps(_body(found), indent=2))
    else:
        _show(found)
    return 1 if found.failed else 0


def _show(found: Verified) -> None:
    for finding in found.findings:
        click.echo(f"{finding.kind}: {finding.path}: {finding.problem}")
        if found.moved_to is None or not finding.move:
            click.echo(f"  {finding.remedy}")
    n = len(found.findings)
    what = f"{found.n_stores} stores and {found.n_records} records below {found.out}"
    click.echo(f"{what}: {n or 'no'} defect{'' if n == 1 else 's'}")
    if found.moved_to is not None:
        click.echo(
            f"moved {len(found.moved)} files and folders to {found.moved_to}: give the same "
            "commands again to make them anew"
        )
    elif any(finding.move for finding in found.findings):
        click.echo("--fix moves them aside, so that the same commands make them anew")


def _body(found: Verified) -> dict[str, object]:
    return {
        "schema": "mambabench.verify/1",
        "out": str(found.out),
        "ok": not found.failed,
        "n_stores": found.n_stores,
        "n_records": found.n_records,
        "findings": [
            {
                "path": str(finding.path),
                "kind": finding.kind,
                "problem": finding.problem,
                "remedy": finding.remedy,
                "move": [str(path) for path in finding.move],
            }
            for finding in found.findings
        ],
        "moved": [str(path) for path in found.moved],
        "moved_to": None if found.moved_to is None else str(found.moved_to),
    }
