"""``mambabench status``: how far every encoder is on every task, and every training."""

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
    """Say how far every encoder is on every task, and every training: done, running, failed,
    waiting.

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
    from mambabench.cli.lines import print_wrapped
    from mambabench.cli.tables import print_table

    rows: list[tuple[str, ...]] = []
    encoder = ""
    for cell in found.cells:
        if cell.encoder != encoder:
            encoder = cell.encoder
            rows.append((encoder,))
        rows.append(_row(cell))
    numbers = ("done", "running", "failed", "waiting")
    head = ("task", "part", *numbers, "of")
    print_table(head, rows, optional=("of", "running"), numbers=numbers)
    for cell in found.cells:
        if cell.said:
            print_wrapped(f"{cell.encoder} on {cell.task}: {cell.said}")
    for one in found.commands:
        state = "works" if one.alive else "was cut off: the same command continues"
        crew = f", {one.workers} workers" if one.alive and one.workers else ""
        print_wrapped(f"{one.verb} on {one.engine}{crew}, {one.host} process {one.pid}: {state}")


def _row(cell: CellStatus) -> tuple[str, ...]:
    counts = (cell.done, cell.running, cell.failed, cell.waiting)
    unit = "sealed" if cell.part == "extract" and cell.finished else cell.unit
    return (cell.task, cell.part, *map(str, counts), unit)


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
