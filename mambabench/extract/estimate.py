"""Say what an extraction would take, from a few seconds of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from statistics import fmean
from typing import Any

from mambabench.engine.processes import run_units
from mambabench.extract.encode import BatchLimit, EncodeJob, encode_shard
from mambabench.extract.unit import load, make_unit, one_thread, shard_of, spec_of
from mambabench.store.embeddings import store_folder
from mambabench.store.estimate import Estimate, PlannedTask, peak_bytes
from mambabench.store.plan import Shard, pooling_of

__all__ = ["Open", "estimate", "measure"]

MEASURED_S = 3.0  # of encoding, per task


@dataclass(frozen=True)
class Open:
    """What is left to encode of one encoder on one task."""

    planned: PlannedTask
    shards: tuple[Shard, ...]


def estimate(works: Sequence[Open], jobs: int, planning_s: float) -> tuple[Estimate, ...]:
    """Return a row per encoder and task; `planning_s` was spent on plans, as a run would again.

    As many workers as a run would have encode a few batches of every task; nothing is written.
    """
    found: list[Estimate] = []
    once_s = planning_s
    for _, group in groupby(works, key=lambda work: work.planned.plan.spec.encoder):
        own = list(group)
        samples = [_sample(work) for work in own if work.shards]
        measured: dict[str, Any] = {"load_s": 0.0, "tasks": [], "peak": 0}
        if samples:
            measured = _in_workers(samples, min(jobs, sum(len(work.shards) for work in own)))
        tasks = iter(measured["tasks"])
        once_s += measured["load_s"]
        for work in own:
            costs = next(tasks) if work.shards else None
            found.append(_row(work, costs, jobs, measured["peak"], once_s))
            once_s = 0.0
    return tuple(found)


def _in_workers(samples: list[dict[str, Any]], n_workers: int) -> dict[str, Any]:
    """Measure in all workers at once, which share memory and caches, and return their means."""
    units = [{"samples": samples}] * n_workers
    done = [costs for _, costs in run_units(f"{__name__}:measure", units, jobs=max(2, n_workers))]
    tasks = [
        {key: fmean(one[key] for one in parts) for key in ("first_s", "per_audio_s")}
        for parts in zip(*(costs["tasks"] for costs in done), strict=True)
    ]
    peak = max(costs["peak"] for costs in done)
    return {"load_s": fmean(costs["load_s"] for costs in done), "tasks": tasks, "peak": peak}


def _sample(work: Open) -> dict[str, Any]:
    """Return a shard of middle length as its worker is told of it."""
    plan = work.planned.plan
    shard = sorted(work.shards, key=lambda shard: shard.duration_s)[len(work.shards) // 2]
    folder = store_folder(plan.task.directory, plan.spec.label, plan.task.name)  # never written
    return make_unit(folder, pooling_of(plan.task), plan.spec, shard, plan.task.sample_duration_s)


def _row(
    work: Open, costs: dict[str, float] | None, jobs: int, peak: int, once_s: float
) -> Estimate:
    plan = work.planned.plan
    seconds, n_workers = once_s, min(jobs, max(len(work.shards), 1))
    if costs is not None:
        audio_s = sum(shard.duration_s for shard in work.shards)
        seconds += costs["first_s"] + audio_s * costs["per_audio_s"] / n_workers
    n_layers = 1 if plan.spec.layers is None else len(plan.spec.layers)
    frames = work.planned.frames_per_s > 0
    dim = plan.spec.timestamp_embedding_size if frames else plan.spec.scene_embedding_size
    n_bytes = 2 if plan.task.pooling == "frames" else 4
    share = sum(len(shard.clips) for shard in work.shards) / max(1, _n_clips(plan.shards))
    return Estimate(
        stage="extract",
        encoder=plan.spec.label,
        task=plan.task.name,
        n=_n_clips(work.shards),
        seconds=seconds,
        disk_bytes=round(share * work.planned.n_rows * n_layers * dim * n_bytes),
        memory_bytes=peak_bytes() + (peak * n_workers if jobs > 1 else 0),
        note="" if work.shards else "there already",
    )


def _n_clips(shards: Sequence[Shard]) -> int:
    return sum(len(shard.clips) for shard in shards)


def measure(unit: dict[str, Any], report: Callable[[Any], None]) -> dict[str, Any]:
    """Load the encoder of some shards and encode a few batches of each; the life of a worker."""
    start = time.perf_counter()
    spec = spec_of(unit["samples"][0]["spec"])
    encoder = load(spec.encoder, spec.device, spec.precision)
    load_s = time.perf_counter() - start
    tasks = []
    with one_thread(encoder.device), ThreadPoolExecutor(1) as readers:
        for sample in unit["samples"]:
            layers = spec_of(sample["spec"]).layers
            job = EncodeJob(encoder, sample["pooling"], layers, BatchLimit(), sample["clip_s"])
            tasks.append(_measured(job, shard_of(sample["shard"]), readers))
    return {"load_s": load_s, "tasks": tasks, "peak": peak_bytes()}


def _measured(job: EncodeJob, shard: Shard, readers: ThreadPoolExecutor) -> dict[str, float]:
    """Return seconds per second of audio, and what the first batch costs besides."""
    pieces = [replace(shard, clips=batch, batch_sizes=(len(batch),)) for batch in shard.batches()]
    first_s = _encoded(job, pieces[0], readers)
    seconds = audio_s = 0.0
    for piece in pieces:
        seconds += _encoded(job, piece, readers)
        audio_s += piece.duration_s
        if seconds >= MEASURED_S:
            break
    per_audio_s = seconds / max(audio_s, 1e-9)
    return {
        "first_s": max(0.0, first_s - per_audio_s * pieces[0].duration_s),
        "per_audio_s": per_audio_s,
    }


def _encoded(job: EncodeJob, piece: Shard, readers: ThreadPoolExecutor) -> float:
    start = time.perf_counter()
    for _ in encode_shard(job, piece, readers, lambda clips, seconds: None):
        pass
    return time.perf_counter() - start
