"""`hear2021`: hear-eval-kit 2021.1.3 with its grid and every quirk (HEAR 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mambabench.probe.protocols import GridSettings, Protocol, of_classes

__all__ = ["PROTOCOL", "kit_grid"]

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
_FAST: dict[str, tuple[Any, ...]] = {
    "max_epochs": (10, 50),
    "check_val_every_n_epoch": (3, 10),
}
_FASTER: dict[str, tuple[Any, ...]] = {
    "hidden_layers": (0, 1),
    "hidden_dim": (64, 128),
    "patience": (1, 3),
    "max_epochs": (10,),
    "check_val_every_n_epoch": (1,),
}


def kit_grid(changes: Mapping[str, Sequence[Any]]) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """Return the kit's grid with other values of some keys."""
    merged = {**_KIT_GRID, **{key: tuple(values) for key, values in changes.items()}}
    return tuple(sorted(merged.items()))


def _settings(changes: Mapping[str, Sequence[Any]]) -> GridSettings:
    return GridSettings(
        kit=True, grid=kit_grid(changes), n_points=8, grid_seed=42, exact_seeds=(42,)
    )


PROTOCOL = Protocol(
    "hear2021",
    of_classes("mlp"),
    _settings({}),
    grids={"fast": _settings(_FAST), "faster": _settings(_FASTER)},
)
