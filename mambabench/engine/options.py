"""The options by which a verb is told where its work runs, declared once for all verbs."""

from __future__ import annotations

from typing import Any

from mambabench.settings import option

__all__ = ["engine_option", "per_node_option"]


def engine_option() -> Any:
    """Declare ``engine`` in a verb's settings."""
    return option(
        "local",
        "Where work runs: processes of this machine, Ray, or job arrays of SLURM.",
        metavar="local|ray[:ADDRESS]|slurm[:KEY=VALUE,...]",
    )


def per_node_option() -> Any:
    """Declare ``per_node`` in a verb's settings."""
    return option(
        None,
        "Ray's workers on each node; they share its cores or GPUs.  [default: one each]",
        minimum=1,
    )
