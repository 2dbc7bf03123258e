"""`mambabench clips`: the test clips of finished probes, and which were wrong."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import click

__all__ = ["command"]


@click.command(name="clips")
@click.option(
    "--out",
    multiple=True,
    type=click.Path(path_type=Path),
    default=(Path("mambabench-out"),),
    metavar="DIR",
    help="Output folder of probe. Repeatable.  [default: mambabench-out]",
)
@click.option("--encoder", multiple=True, metavar="GLOB", help="Only these. Repeatable.")
@click.option("--task", multiple=True, metavar="GLOB", help="Only these. Repeatable.")
@click.option("--wrong", is_flag=True, help="Only clips that a seed got wrong.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line, a line per seed.")
def command(
    out: tuple[Path, ...],
    encoder: tuple[str, ...],
    task: tuple[str, ...],
    wrong: bool,
    as_json: bool,
) -> int:
    """List test clips, the hardest first: how many seeds were right, and what they predicted.

    Clips of tasks with one label a clip; those of restricted tasks are numbered, not named.
    """
    from mambabench.cli.report import echo
    from mambabench.report.clips import load_clips

    frame = load_clips(out, encoder=encoder, task=task, wrong=wrong and as_json)
    rows = [dict(row) for row in frame.to_dict("records")]
    if as_json:
        for row in rows:
            echo(json.dumps(row, ensure_ascii=False) + "\n")
        return 0
    found: dict[tuple[str, ...], list[dict[Hashable, Any]]] = {}
    for row in rows:
        keys = ("encoder", "task", "protocol", "fold", "clip", "target")
        found.setdefault(tuple(str(row[key]) for key in keys), []).append(row)
    lines = [_line(key, own) for key, own in found.items()]
    for line in sorted(lines, key=lambda one: one[0]):
        if not wrong or line[0][-1] < 1:
            echo(line[1])
    return 0


def _line(
    key: tuple[str, ...], own: Sequence[dict[Hashable, Any]]
) -> tuple[tuple[str, str, str, float], str]:
    """Return what a clip is sorted by, the share of seeds that were right last, and its line."""
    right = sum(bool(row["right"]) for row in own)
    predictions = " ".join(str(row["prediction"]) for row in own)
    where = "  ".join(key[:5])
    text = f"{where}  label {key[5]}  right {right}/{len(own)}  {predictions}\n"
    return (key[0], key[1], key[2], right / len(own)), text
