"""Options that several verbs share: the same name, meaning and default everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from mambabench.errors import nearest_names

__all__ = ["Named", "device", "encoder", "jobs", "layout", "one_out", "task", "tasks"]


class Named(click.Choice[str]):
    """A choice that answers a wrong value with the nearest right ones."""

    def __init__(self, choices: Sequence[str]) -> None:
        super().__init__(choices)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.choices:
            known = ", ".join(self.choices)
            near = nearest_names(str(value), self.choices)
            self.fail(f"{value!r} is not one of {known}{near}", param, ctx)
        return str(value)


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

encoder: Decorator = click.option(
    "--encoder",
    multiple=True,
    metavar="E",
    help="Registered name, dotted module or path of a HEAR-API .py file; E@PATH adds a checkpoint. "
    "Repeatable.",
)
tasks: Decorator = click.option(
    "--tasks",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A task directory or a parent of several. Repeatable. Default: the generated demo.",
)
task: Decorator = click.option(
    "--task", multiple=True, metavar="NAME", help="Only this task directory name. Repeatable."
)
one_out: Decorator = click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("mambabench-out"),
    show_default=True,
    help="Output folder.",
)
device: Decorator = click.option(
    "--device", type=Named(["auto", "cpu", "cuda"]), default="auto", show_default=True
)
jobs: Decorator = click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=None,
    help="Parallel workers.  [default: one per core]",
)
layout: Decorator = click.option(
    "--layout",
    type=Named(["store", "hear-eval-kit"]),
    default="store",
    show_default=True,
    help="How embeddings lie on disk.",
)
