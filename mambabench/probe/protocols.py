"""Probe protocols: what is trained, on which grid, and how the winner is chosen.

Sources: hear-eval-kit 2021.1.3 (HEAR 2021) for `hear2021`; the SSAM authors' copy of that kit
(SSAM, 2024, also used for MW-MAE) for `ssam2024`. Every quirk is listed in docs/protocols.md.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from mambabench.benchmarks.task import Task
from mambabench.errors import ProtocolError, nearest_names
from mambabench.plugins import Registry
from mambabench.probe.language_model import KIND, LanguageModel, language_model

__all__ = [
    "DEFAULT_PROTOCOL",
    "GRIDS",
    "PROTOCOLS",
    "HeadConfig",
    "Inapplicable",
    "Protocol",
    "grid_points",
    "post_processing_grid",
    "resolve_protocol",
]

DEFAULT_PROTOCOL = "ssam2024"
GRIDS = ("default", "fast", "faster")

Family = Literal["mlp", "linear", "knn", "superb"]
Init = Literal["uniform", "normal"]  # Xavier's two forms


class Inapplicable(ProtocolError):  # noqa: N818 - not a fault
    """A protocol cannot do this task: a missing cell of the table, with its reason."""


@dataclass(frozen=True)
class HeadConfig:
    """One grid point of a trained head: architecture, optimiser and schedule."""

    hidden_layers: int = 1
    hidden_dim: int = 1024
    dropout: float = 0.1
    lr: float = 1e-3
    weight_decay: float = 0.0  # decoupled, as in AdamW; 0 is Adam
    initialization: Init = "uniform"
    batch_size: int = 1024
    max_epochs: int = 500
    check_every: int = 3  # epochs between validations
    patience: int = 20  # validations without improvement


@dataclass(frozen=True)
class Protocol:
    """A named preset. `kit` marks those that follow hear-eval-kit with all its quirks."""

    name: str  # as recorded
    family: Family
    kit: bool = False  # kit's row order, fixed batches, grid search on the first fold only
    grid: tuple[tuple[str, tuple[Any, ...]], ...] = ()  # key -> values, as the kit's PARAM_GRID
    points: tuple[HeadConfig, ...] = ()  # instead of a grid
    n_points: int | None = None  # grid points drawn; None: all, in order
    grid_seed: int | None = None  # of the draw; None: the trial's own seed
    shuffle: bool = False  # new training batches every epoch
    standardise: bool = False  # by the training rows' mean and standard deviation
    adapt_batch: bool = False  # smaller batches for small training sets
    seeded: bool = True  # False: deterministic, one seed
    exact: bool = False  # replay the kit's whole random stream
    clean: bool = False  # superb: nothing is selected on test data or trained speakers
    shorten: int = 1  # superb: divides the published number of steps
    exact_seeds: tuple[int, ...] | None = None  # the seeds that the kit itself has
    selected_on: int = 0  # validation items that a choice needs; fewer: the validation fold rotates
    version: int = 1  # raised when the same inputs give other heads: older records are trained anew
    # superb: decodes letters a second time; its hash joins the inputs of the tasks that it concerns
    language_model: LanguageModel | None = field(default=None, repr=False, compare=False)

    def adds_to(self, kind: str) -> str:
        """Return what a language model adds to the inputs of a unit: letters alone are decoded."""
        return (
            "" if self.language_model is None or kind != KIND else f" {self.language_model.sha256}"
        )


_KIT_GRID: dict[str, tuple[Any, ...]] = {
    "batch_size": (1024,),
    "check_val_every_n_epoch": (3,),
    "dropout": (0.1,),
    "hidden_dim": (1024,),
    "hidden_layers": (1, 2),
    "initialization": ("uniform", "normal"),
    "lr": (3.2e-3, 1e-3, 3.2e-4, 1e-4),
    "max_epochs": (500,),
    "patience": (20,),
}
_FAST = {"max_epochs": (10, 50), "check_val_every_n_epoch": (3, 10)}
_FASTER = {
    "hidden_layers": (0, 1),
    "hidden_dim": (64, 128),
    "patience": (1, 3),
    "max_epochs": (10,),
    "check_val_every_n_epoch": (1,),
}
_SSAM_GRID = {
    "hidden_layers": (1,),
    "dropout": (0.1, 0.25),
    "lr": (1e-4,),
    "initialization": ("normal",),
}
_KEY_OF_FIELD = {"check_val_every_n_epoch": "check_every"}


def _items(
    *grids: Mapping[str, Sequence[Any]],
) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    merged: dict[str, tuple[Any, ...]] = {}
    for grid in grids:
        merged.update({key: tuple(values) for key, values in grid.items()})
    return tuple(sorted(merged.items()))


# A linear head, a cautious one for small sets and an eager one; simplest first, since the earliest
# of equal points wins.
_SOUND = HeadConfig(hidden_dim=256, lr=3e-3, max_epochs=200, check_every=1, patience=15)
_SOUND_POINTS = (
    replace(_SOUND, hidden_layers=0, dropout=0.0, weight_decay=1.0),
    replace(_SOUND, dropout=0.75, lr=1e-3, weight_decay=0.1),
    replace(_SOUND, dropout=0.25, weight_decay=0.1),
)

_PUBLISHED: dict[str, Protocol | str] = {
    "hear2021": Protocol(
        name="hear2021",
        family="mlp",
        kit=True,
        grid=_items(_KIT_GRID),
        n_points=8,
        grid_seed=42,
        exact_seeds=(42,),
    ),
    "ssam2024": Protocol(
        name="ssam2024",
        family="mlp",
        kit=True,
        grid=_items(_KIT_GRID, _SSAM_GRID),
        n_points=8,
    ),
    "linear": Protocol(name="linear", family="linear", standardise=True, seeded=False, version=2),
    "knn": Protocol(name="knn", family="knn", seeded=False),
    "sound": Protocol(
        name="sound",
        family="mlp",
        points=_SOUND_POINTS,
        shuffle=True,
        standardise=True,
        adapt_batch=True,
        selected_on=200,
        version=2,
    ),
    "superb": Protocol(name="superb", family="superb", version=2),
    "superb-clean": Protocol(name="superb-clean", family="superb", clean=True, version=2),
}
PROTOCOLS: Registry[Protocol] = Registry("protocols", Protocol, _PUBLISHED)
_SHORTER = {"fast": 10, "faster": 100}


def resolve_protocol(
    name: str, grid: str = "default", exact: bool = False, lm: Path | None = None
) -> Protocol:
    """Return the preset `name` with another `grid`, the exact stream or a language model.

    ProtocolError for an unknown name or a combination that the preset does not have.
    """
    if name not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        near = nearest_names(name, PROTOCOLS)
        raise ProtocolError(f"no protocol named {name!r} (known: {known}){near}")
    if grid not in GRIDS:
        near = nearest_names(grid, GRIDS)
        raise ProtocolError(f"no grid named {grid!r} (known: {', '.join(GRIDS)}){near}")
    protocol = PROTOCOLS[name]
    if grid != "default" and protocol.family == "superb":
        protocol = replace(protocol, name=f"{name}/{grid}", shorten=_SHORTER[grid])
    elif grid != "default":
        if name != "hear2021":
            raise ProtocolError(
                f"protocol {name!r} has one grid: leave --grid {grid} out, or use "
                "--protocol hear2021, which has fast and faster ones"
            )
        changes = _FAST if grid == "fast" else _FASTER
        protocol = replace(protocol, name=f"{name}/{grid}", grid=_items(_KIT_GRID, changes))
    if exact:
        if not protocol.kit:
            raise ProtocolError(
                f"protocol {name!r} has no exact stream: --exact replays hear-eval-kit's, for "
                "--protocol hear2021 and ssam2024"
            )
        protocol = replace(protocol, name=f"{protocol.name}+exact", exact=True)
    if lm is not None:
        if protocol.family != "superb":
            raise ProtocolError(
                f"--lm decodes letters under superb and superb-clean, not under {name}: leave one "
                "of the two out"
            )
        protocol = replace(protocol, language_model=language_model(lm))
    return protocol


def grid_points(protocol: Protocol, task: Task, seed: int) -> tuple[HeadConfig, ...]:
    """Return the trained grid points in their order (the earliest of equal scores wins).

    The kit's order: the product over keys in alphabetical order, shuffled by Python's generator,
    the first eight taken; a task's own values replace the grid's before that.
    """
    if protocol.points:
        return protocol.points
    grid = dict(protocol.grid)
    if protocol.kit:
        if task.name.startswith("dcase2016_task2-"):
            grid["check_val_every_n_epoch"] = (10,)
        for key, values in task.task_specific_param_grid:
            if key not in grid:
                known = ", ".join(grid)
                raise ProtocolError(
                    f"task {task.name}: task_specific_param_grid names {key!r}, the protocol "
                    f"{protocol.name} knows {known}{nearest_names(key, grid)}"
                )
            grid[key] = values
    keys = sorted(grid)
    points = [
        dict(zip(keys, values, strict=True))
        for values in itertools.product(*(grid[key] for key in keys))
    ]
    if protocol.n_points is not None:
        random.Random(seed if protocol.grid_seed is None else protocol.grid_seed).shuffle(points)
        points = points[: protocol.n_points]
    return tuple(
        HeadConfig(**{_KEY_OF_FIELD.get(key, key): value for key, value in point.items()})
        for point in points
    )


def post_processing_grid(task: Task) -> tuple[tuple[float, float], ...]:
    """Return the (median_filter_ms, min_duration_ms) pairs of a timestamp task.

    hear-eval-kit's defaults where the task has none: median 250 ms, minimum 125 or 250 ms.
    """
    medians = task.median_filter_ms or (250.0,)
    minima = task.min_duration_ms or (125.0, 250.0)
    return tuple(itertools.product(medians, minima))
