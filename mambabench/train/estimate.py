"""What a training will take: steps, samples and hours from a few timed steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from mambabench.train.batches import Batch
from mambabench.train.encoder_settings import EncoderSettings
from mambabench.train.initial import initial_path
from mambabench.train.loop import DTYPES
from mambabench.train.ranks import Ranks
from mambabench.train.recipes import Recipe
from mambabench.train.system import Call, PreparedTraining, find_system

__all__ = ["estimate", "time_step"]

TIMED_CLIPS = 4  # per timed step: enough for a rate, little enough for a laptop


def time_step(prepared: PreparedTraining, n_clips: int = TIMED_CLIPS, repeats: int = 2) -> float:
    """Return the seconds that forward and backward take per clip, after one warm-up."""
    work = prepared.work
    work.model.train()
    parts = next(work.source.steps(0, 0, Ranks(), 1)).parts
    full = parts[0]
    n = min(n_clips, len(full))
    batch = Batch(
        full.inputs[:n],
        None if full.targets is None else full.targets[:n],
        {k: v[:n] for k, v in full.draws.items()},
    ).to(work.device)
    seconds = []
    for _ in range(repeats + 1):
        begun = time.perf_counter()
        dtype = DTYPES.get(work.precision)
        with torch.autocast(work.device.partition(":")[0], dtype=dtype, enabled=dtype is not None):
            losses = work.objective(work.model, batch)
        losses.loss.backward()  # type: ignore[no-untyped-call]
        work.optimiser.zero_grad()
        if work.device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return min(seconds[1:]) / n


def estimate(
    recipe: Recipe, data: Sequence[str | Path], init: str | None, device: str, n_ranks: int
) -> list[str]:
    """Return lines that say what each row will do and take; nothing is written."""
    system = find_system(recipe.system)
    lines = []
    for row in recipe.rows:
        settings = row.settings
        assert isinstance(settings, EncoderSettings)
        opened = system.open_data(settings, [str(d) for d in data])
        with TemporaryDirectory() as folder:
            call = Call(device, Ranks(), initial_path(init))
            prepared = system.prepare(
                settings, opened, opened.folds[0], settings.seeds[0], Path(folder), call
            )
            per_clip = time_step(prepared)
        work = prepared.work
        n_runs = len(opened.folds) * len(settings.seeds)
        clips = work.n_steps * settings.batch_size
        hours = clips * per_clip / n_ranks / 3600
        n_parameters = sum(p.numel() for p in work.model.parameters() if p.requires_grad)
        lines += [
            f"{row.name}: {n_parameters:,} trained parameters, mode {settings.mode}",
            "  " + ", ".join(f"{v:,} {k}" for k, v in prepared.facts.items()),
            f"  {work.source.steps_per_epoch:,} steps per epoch, {work.n_steps:,} in all, "
            f"{clips:,} clips; {n_runs} run{'s' if n_runs > 1 else ''} (folds x seeds)",
            f"  {1 / per_clip:.1f} clips/s here (forward and backward, {TIMED_CLIPS} clips): about "
            f"{hours:.2g} h per run on {n_ranks} rank{'s' if n_ranks > 1 else ''}, "
            f"{hours * n_runs:.2g} h in all, reading not counted",
        ]
    return lines
