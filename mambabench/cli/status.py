"""``mambabench status``: how far every encoder is on every task."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mambabench.cli import options

if TYPE_CHECKING:
    from mambabench.status import CellStatus, Status

__all__ = ["command"]


@click.command("status")
@options.one_out
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(out: Path, as_json: bool) -> int:
    """Say how far every encoder is on every task: done, running, failed, waiting.

    It only reads, also while other commands work in the folder.
    """
    from mambabench.status import status

    found = status(out)
    if as_json:
        click.echo(json.dumps(_body(found), indent=2))
    else:
        _show(found)
    return 0


def _show(found: Status) -> None:
    head = ("encoder", "task", "part", "done", "running", "failed", "waiting", "of")
    rows = [head, *(_row(cell) for cell in found.cells)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    for row in rows:
        left = [text.ljust(width) for text, width in zip(row[:3], widths[:3], strict=True)]
        right = [text.rjust(width) for text, width in zip(row[3:7], widths[3:7], strict=True)]
        click.echo("  ".join([*left, *right, row[7]]).rstrip())
    for one in found.commands:
        state = "works" if one.alive else "was cut off: the same command continues"
        crew = f", {one.workers} workers" if one.alive and one.workers else ""
        click.echo(f"{one.verb} on {one.engine}{crew}, {one.host} process {one.pid}: {state}")


def _row(cell: CellStatus) -> tuple[str, ...]:
    counts = (cell.done, cell.running, cell.failed, cell.waiting)
    unit = "sealed" if cell.part == "extract" and cell.finished else cell.unit
    return (cell.encoder, cell.task, cell.part, *map(str, counts), unit)


def _body(found: Status) -> dict[str, object]:
    return {
        "schema": "mambabench.status/1",
        "out": str(found.out),
        "cells": [dataclasses.asdict(cell) for cell in found.cells],
        "commands": [
            {
                "verb": one.verb,
                "engine": one.engine,
                "host": one.host,
                "pid": one.pid,
                "alive": one.alive,
                "workers": one.workers,
            }
            for one in found.commands
        ],
    }
