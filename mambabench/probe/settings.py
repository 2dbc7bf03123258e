"""What `probe` can be told, declared once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mambabench.engine.options import engine_option, per_node_option
from mambabench.settings import OUT, option

__all__ = ["ProbeSettings"]


@dataclass(frozen=True)
class ProbeSettings:
    """Options of ``mambabench probe``, keywords of ``mambabench.probe``."""

    seeds: int = option(
        10,
        "How many: seeds 0 to n - 1. linear and knn are deterministic and have one.",
        minimum=1,
    )
    protocol: str | None = option(
        None,
        "Default: what a task's metadata name, else ssam2024.",
        choices="mambabench.probe.protocols:PROTOCOLS",
    )
    grid: str = option(
        "default",
        "hear2021's grids; of a suite's recipes, a tenth or a hundredth of the steps.",
        choices="mambabench.probe.protocols:GRIDS",
    )
    exact: bool = option(
        False, "Replay hear-eval-kit's random stream (hear2021: its one seed, 42; ssam2024)."
    )
    jobs: int | None = option(None, "Parallel workers.  [default: one per core]", minimum=1)
    device: str = option("auto", choices=("auto", "cpu", "cuda"))
    out: Path = option(OUT, "Output folder.")  # noqa: RUF009 (a field)
    task: tuple[str, ...] = option((), "Only this task directory name. Repeatable.", metavar="NAME")
    encoder: tuple[str, ...] = option(
        (),
        "Registered name, dotted module or path of a HEAR-API .py file; E@PATH adds a checkpoint. "
        "Repeatable.",
        metavar="E",
    )
    frames: str = option(
        "store",
        "recompute: also probe where extract stored no frames; the encoder runs at every step.",
        choices=("store", "recompute"),
    )
    lm: Path | None = option(  # noqa: RUF009 (a field)
        None,
        "An n-gram model in ARPA's format; letters are decoded with it too, beside the score.",
        metavar="FILE",
    )
    layout: str = option("store", "How embeddings lie on disk.", choices=("store", "hear-eval-kit"))
    engine: str = engine_option()
    per_node: int | None = per_node_option()
    shard: str | None = option(None, "Do the i-th of n shares, 1 <= i <= n.", metavar="i/n")
    limit: str | None = option(
        None,
        "Only so many clips of each split, or such a share: whole clusters, every label kept.",
        metavar="N|SHARE",
        numbers=True,
    )
    dry_run: bool = option(
        False, "Compute a small sample, and say what all of it would take: hours, GB, memory."
    )
