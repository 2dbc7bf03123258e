"""Probe protocols: what is trained, on which grid, and how the winner is chosen; a file each.

Every quirk is listed in docs/protocols.md. Other packages add theirs as entry points of the group
``mambabench.protocols``.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
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
    "GridSettings",
    "HeadConfig",
    "Inapplicable",
    "Protocol",
    "RowSettings",
    "grid_points",
    "of_classes",
    "post_processing_grid",
    "protocol_key",
    "resolve_protocol",
]

DEFAULT_PROTOCOL = "ssam2024"
GRIDS = ("default", "fast", "faster")

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
class RowSettings:
    """How a head of classes meets its rows."""

    standardise: bool = False  # by the training rows' mean and standard deviation


@dataclass(frozen=True)
class GridSettings(RowSettings):
    """Heads of a grid, the best of which is chosen. `kit`: with all quirks of hear-eval-kit."""

    kit: bool = False  # kit's row order, fixed batches, grid search on the first fold only
    grid: tuple[tuple[str, tuple[Any, ...]], ...] = ()  # key -> values, as the kit's PARAM_GRID
    points: tuple[HeadConfig, ...] = ()  # instead of a grid
    n_points: int | None = None  # grid points drawn; None: all, in order
    grid_seed: int | None = None  # of the draw; None: the trial's own seed
    adapt_batch: bool = False  # smaller batches for small training sets
    exact: bool = False  # replay the kit's whole random stream
    exact_seeds: tuple[int, ...] | None = None  # the seeds that the kit itself has
    selected_on: int = 0  # validation items that a choice needs; fewer: the validation fold rotates


@dataclass(frozen=True)
class Protocol:
    """A named way to probe: which family trains the heads of each kind of task, and how.

    A family is a function ``steps(unit)`` that hands out jobs and returns the outcome of each fold;
    it finds its own `settings`, and no protocol has those of another family.
    """

    name: str  # as recorded
    families: Mapping[str, str]  # kind of task (`Task.kind`) -> "module:function"
    settings: Any = RowSettings()
    unfit: Mapping[str, str] = field(default_factory=dict)  # kind -> why there is no family for it
    grids: Mapping[str, Any] = field(default_factory=dict)  # word of --grid -> settings instead
    seeded: bool = True  # False: deterministic, one seed
    version: int = 1  # raised when the same inputs give other heads: older records are trained anew

    def adds_to(self, kind: str) -> str:
        """Return what a language model adds to the inputs of a unit: letters alone are decoded."""
        model: LanguageModel | None = getattr(self.settings, "language_model", None)
        return "" if model is None or kind != KIND else f" {model.sha256}"

    @property
    def kit(self) -> bool:
        """Whether hear-eval-kit is followed with all its quirks."""
        return isinstance(self.settings, GridSettings) and self.settings.kit

    @property
    def exact(self) -> bool:
        """Whether the kit's whole random stream is replayed."""
        return isinstance(self.settings, GridSettings) and self.settings.exact


# what identified a protocol when records were first written, in that order, and what else it was
_KEY = {
    **{"kit": False, "grid": (), "points": (), "n_points": None, "grid_seed": None},
    **{"shuffle": False, "standardise": False, "adapt_batch": False, "seeded": True},
    **{"exact": False, "clean": False, "shorten": 1, "exact_seeds": None, "selected_on": 0},
    "version": 1,
}


def protocol_key(protocol: Protocol) -> str:
    """Return a text that changes with whatever a head follows from, and with nothing else.

    It names each record's inputs, so that it must never change for a protocol that does not:
    records would be trained anew.
    """
    settings = protocol.settings
    targets = sorted(set(protocol.families.values()))
    family = getattr(settings, "suite", None)
    if family is None and len(targets) == 1 and targets[0].startswith("mambabench."):
        family = targets[0].partition(":")[0].rpartition(".")[2]
    elif family is None:
        family = repr(sorted(protocol.families.items()))
    own = {name: getattr(settings, name, default) for name, default in _KEY.items()}
    own |= {"seeded": protocol.seeded, "version": protocol.version}
    own["shuffle"] = isinstance(settings, GridSettings) and not settings.kit
    named = {"name": protocol.name, "family": family, **own}
    text = f"Protocol({', '.join(f'{name}={value!r}' for name, value in named.items())})"
    known = isinstance(settings, RowSettings) or hasattr(settings, "suite")
    return text if known else f"{text} {settings!r}"


def of_classes(family: str, *, events: bool = True) -> dict[str, str]:
    """Return the families of a protocol that trains on examples of classes and, perhaps, events."""
    kinds = ("multiclass", "multilabel", *(("events",) if events else ()))
    return dict.fromkeys(kinds, f"mambabench.probe.families.{family}:steps")


_KEY_OF_FIELD = {"check_val_every_n_epoch": "check_every"}


_HERE = "mambabench.probe.protocols."
PROTOCOLS: Registry[Protocol] = Registry(
    "protocols",
    Protocol,
    {
        "hear2021": _HERE + "hear2021:PROTOCOL",
        "ssam2024": _HERE + "ssam2024:PROTOCOL",
        "linear": _HERE + "linear:PROTOCOL",
        "knn": _HERE + "knn:PROTOCOL",
        "sound": _HERE + "sound:PROTOCOL",
        "superb": _HERE + "superb:PROTOCOL",
        "superb-clean": _HERE + "superb:CLEAN",
    },
)


def resolve_protocol(
    name: str, grid: str = "default", exact: bool = False, lm: Path | None = None
) -> Protocol:
    """Return the protocol `name` with another `grid`, the exact stream or a language model.

    ProtocolError for an unknown name or a combination that the protocol does not have.
    """
    if name not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        near = nearest_names(name, PROTOCOLS)
        raise ProtocolError(f"no protocol named {name!r} (known: {known}){near}")
    if grid not in GRIDS:
        near = nearest_names(grid, GRIDS)
        raise ProtocolError(f"no grid named {grid!r} (known: {', '.join(GRIDS)}){near}")
    protocol = PROTOCOLS[name]
    if grid != "default":
        if grid not in protocol.grids:
            raise ProtocolError(
                f"protocol {name!r} has one grid: leave --grid {grid} out, or use "
                "--protocol hear2021, which has fast and faster ones"
            )
        settings = protocol.grids[grid]
        version = protocol.version + getattr(settings, "grid_version", 0)
        protocol = replace(protocol, name=f"{name}/{grid}", settings=settings, version=version)
    if exact:
        if not protocol.kit:
            raise ProtocolError(
                f"protocol {name!r} has no exact stream: --exact replays hear-eval-kit's, for "
                "--protocol hear2021 and ssam2024"
            )
        settings = replace(protocol.settings, exact=True)
        protocol = replace(protocol, name=f"{protocol.name}+exact", settings=settings)
    if lm is not None:
        if not hasattr(protocol.settings, "language_model"):
            raise ProtocolError(
                f"--lm decodes letters under superb and superb-clean, not under {name}: leave one "
                "of the two out"
            )
        settings = replace(protocol.settings, language_model=language_model(lm))
        protocol = replace(protocol, settings=settings)
    return protocol


def grid_points(protocol: Protocol, task: Task, seed: int) -> tuple[HeadConfig, ...]:
    """Return the trained grid points in their order (the earliest of equal scores wins).

    The kit's order: the product over keys in alphabetical order, shuffled by Python's generator,
    the first eight taken; a task's own values replace the grid's before that.
    """
    settings = protocol.settings
    assert isinstance(settings, GridSettings), f"{protocol.name} has no grid"
    if settings.points:
        return settings.points
    grid = dict(settings.grid)
    if settings.kit:
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
    if settings.n_points is not None:
        random.Random(seed if settings.grid_seed is None else settings.grid_seed).shuffle(points)
        points = points[: settings.n_points]
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
