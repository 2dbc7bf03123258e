"""Options that several verbs share: the same name, meaning and default everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from mambabench.errors import nearest_names

__all__ = [
    "Named",
    "baseline",
    "device",
    "encoder",
    "exact",
    "format_",
    "gpus",
    "grid",
    "hop_ms",
    "jobs",
    "layers",
    "layout",
    "on_error",
    "one_out",
    "precision",
    "protocol",
    "seeds",
    "task",
    "tasks",
    "traceback",
]


class Named(click.Choice[str]):
    """A choice that answers a wrong value with the nearest right ones.

    Names that other packages can add are given as a function, called when they are needed.
    """

    def __init__(self, choices: Sequence[str] | Callable[[], Sequence[str]]) -> None:
        self._names = choices
        super().__init__(() if callable(choices) else choices)

    @property
    def choices(self) -> tuple[str, ...]:
        """All names that are right."""
        return tuple(self._names() if callable(self._names) else self._names)

    @choices.setter
    def choices(self, value: Sequence[str]) -> None:
        """Ignore what the base class sets: the names stand in the function."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.choices:
            known = ", ".join(self.choices)
            near = nearest_names(str(value), self.choices)
            self.fail(f"{value!r} is not one of {known}{near}", param, ctx)
        return str(value)


def _protocols() -> Sequence[str]:
    from mambabench.probe.protocols import PROTOCOLS

    return tuple(PROTOCOLS)


def _grids() -> Sequence[str]:
    from mambabench.probe.protocols import GRIDS

    return GRIDS


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
layers: Decorator = click.option(
    "--layers",
    default="last",
    show_default=True,
    metavar="last|all|0,3,6",
    help="Hidden states to keep: 0 is the input of the first block.",
)
precision: Decorator = click.option(
    "--precision", type=Named(["fp32", "bf16", "int8"]), default="fp32", show_default=True
)
hop_ms: Decorator = click.option(
    "--hop-ms",
    type=click.FloatRange(min=1),
    default=None,
    help="Hop of timestamp embeddings; below the encoder's own, shifted windows are computed.",
)
gpus: Decorator = click.option(
    "--gpus", type=click.IntRange(min=1), default=None, help="One worker on each GPU."
)
on_error: Decorator = click.option(
    "--on-error",
    type=Named(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="Whether a task is finished without the clips that cannot be embedded.",
)
seeds: Decorator = click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="How many: seeds 0 to n - 1. linear and knn are deterministic and have one.",
)
protocol: Decorator = click.option(
    "--protocol",
    type=Named(_protocols),
    default=None,
    help="Default: what a task's metadata name, else ssam2024.",
)
grid: Decorator = click.option(
    "--grid",
    type=Named(_grids),
    default="default",
    show_default=True,
    help="hear2021's grids; of superb and superb-clean, a tenth or a hundredth of the steps.",
)
exact: Decorator = click.option(
    "--exact",
    is_flag=True,
    help="Replay hear-eval-kit's random stream (hear2021: its one seed, 42; ssam2024).",
)
format_: Decorator = click.option(
    "--format",
    type=Named(["terminal", "markdown", "latex", "csv", "json"]),
    default="terminal",
    show_default=True,
)


def _ask_for_tracebacks(context: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        from mambabench.cli import show_whole

        show_whole()


traceback: Decorator = click.option(
    "--traceback",
    is_flag=True,
    expose_value=False,
    callback=_ask_for_tracebacks,
    help="Print the whole traceback of an encoder's fault.",
)
baseline: Decorator = click.option(
    "--baseline", metavar="E", help="Compare every encoder with this one only."
)
