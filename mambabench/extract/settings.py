"""What `extract` can be told, declared once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mambabench.engine.options import engine_option, per_node_option
from mambabench.settings import OUT, option

__all__ = ["ExtractSettings"]


@dataclass(frozen=True)
class ExtractSettings:
    """Options of ``mambabench extract``, keywords of ``mambabench.extract``."""

    encoder: tuple[str, ...] = option(
        (),
        "Registered name, dotted module or path of a HEAR-API .py file; E@PATH adds a checkpoint. "
        "Repeatable.",
        metavar="E",
    )
    tasks: tuple[Path, ...] = option(
        (),
        "A task directory or a parent of several. Repeatable. Default: the generated demo.",
        metavar="DIR",
    )
    task: tuple[str, ...] = option((), "Only this task directory name. Repeatable.", metavar="NAME")
    out: Path = option(OUT, "Output folder.")  # noqa: RUF009 (a field)
    layers: str = option(
        "last",
        "Hidden states to keep: 0 is the input of the first block.",
        metavar="last|all|0,3,6",
    )
    frames: str = option(
        "store",
        "Where a task keeps frames of all layers: store them, or note how to encode them again at "
        "every step of probe.",
        choices=("store", "recompute"),
    )
    precision: str = option("fp32", choices=("fp32", "bf16", "int8"))
    hop_ms: float | None = option(
        None,
        "Hop of timestamp embeddings; below the encoder's own, shifted windows are computed.",
        minimum=1,
    )
    python: Path | None = option(  # noqa: RUF009 (a field)
        None,
        "Interpreter in which the .py files of --encoder run; it needs numpy and what they import.",
        metavar="PATH",
    )
    device: str = option("auto", choices=("auto", "cpu", "cuda"))
    gpus: int | None = option(None, "One worker on each GPU.", minimum=1)
    jobs: int | None = option(None, "Parallel workers.  [default: one per core]", minimum=1)
    engine: str = engine_option()
    per_node: int | None = per_node_option()
    timeout: float | None = option(
        None,
        "Seconds that a shard may take before its worker is ended and the shard counts as lost.",
        metavar="S",
        minimum=0.1,
    )
    shard: str | None = option(None, "Do the i-th of n shares, 1 <= i <= n.", metavar="i/n")
    layout: str = option("store", "How embeddings lie on disk.", choices=("store", "hear-eval-kit"))
    on_error: str = option(
        "stop",
        "Whether a task is finished without the clips that cannot be embedded.",
        choices=("stop", "skip"),
    )
    replace: bool = option(
        False, "Embed anew what an edited encoder or other settings left under the same name."
    )
    verify: bool = option(
        False, "Read all audio and stored arrays again and hold them against their hashes."
    )
    limit: str | None = option(
        None,
        "Only so many clips of each split, or such a share: whole clusters, every label kept.",
        metavar="N|SHARE",
        numbers=True,
    )
    dry_run: bool = option(
        False, "Compute a small sample, and say what all of it would take: hours, GB, memory."
    )
