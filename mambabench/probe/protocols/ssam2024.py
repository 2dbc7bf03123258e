"""`ssam2024`: the SSAM authors' copy of hear-eval-kit (SSAM, 2024, also used for MW-MAE)."""

from __future__ import annotations

from mambabench.probe.protocols import GridSettings, Protocol, of_classes
from mambabench.probe.protocols.hear2021 import kit_grid

__all__ = ["PROTOCOL"]

_GRID = kit_grid(
    {
        "hidden_layers": (1,),
        "dropout": (0.1, 0.25),
        "lr": (1e-4,),
        "initialization": ("normal",),
    }
)
PROTOCOL = Protocol("ssam2024", of_classes("mlp"), GridSettings(kit=True, grid=_GRID, n_points=8))
