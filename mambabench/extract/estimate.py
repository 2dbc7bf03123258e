"""Say what an extraction would take, from a few seconds of it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from mambabench.engine.processes import run_units
from mambabench.extract.unit import encode_unit, load, make_unit, one_thread, spec_of
from mambabench.files import sha256_bytes
from mambabench.store.embeddings import store_folder
from mambabench.store.estimate import Estimate, PlannedTask, peak_bytes
from mambabench.store.plan import PlannedClip, Shard, pooling_of
from mambabench.store.shards import plan_path, read_record, rows_path

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Open", "estimate", "measure", "pieces_of"]

MEASURED_S = 3.0  # of encoding, per task and worker
MOST_BATCHES = 64  # that a worker is told of; a piece has at most as many as a shard, about 8
PIECES = (1, 1, 2, 4)  # batches of the first pieces; the first of all warms


@dataclass(frozen=True)
class Open:
    """What is left to encode of one encoder on one task."""

    planned: PlannedTask
    shards: tuple[Shard, ...]


@dataclass(frozen=True)
class _Costs:
    """What the workers of one encoder measured."""

    start_s: float  # of their processes, until they load
    load_s: float  # of the encoder
    first_s: tuple[float, ...]  # of each task: what its first batch takes longer
    per_audio_s: tuple[float, ...]  # of each task: a worker's seconds per second of audio
    peak: int  # bytes of a worker


def estimate(
    works: Sequence[Open], jobs: int, planning_s: float
) -> tuple[tuple[Estimate, ...], tuple[PlannedTask, ...]]:
    """Return a row per encoder and task, and each planned task with the rows of a sample.

    `planning_s` was spent on plans, as a run would again. As many workers as a run would have
    encode a few batches of every task, drawn at random, into a folder that is not kept.
    """
    rows: list[Estimate] = []
    planned: list[PlannedTask] = []
    once_s, started = planning_s, False
    for _, group in groupby(works, key=lambda work: work.planned.plan.spec.encoder):
        own = list(group)
        todo = [work for work in own if work.shards]
        with tempfile.TemporaryDirectory() as folder:
            costs = _in_workers(todo, Path(folder), jobs) if todo else _Costs(0, 0, (), (), 0)
            if jobs > 1:  # one job is done where the plans were made, with what is loaded there
                once_s += costs.load_s + (0.0 if started else costs.start_s)
                started = started or bool(todo)
            each = iter(zip(costs.first_s, costs.per_audio_s, strict=True))
            for work in own:
                first_s, per_audio_s = next(each) if work.shards else (0.0, 0.0)
                audio_s = sum(shard.duration_s for shard in work.shards)
                seconds = once_s + first_s + audio_s * per_audio_s / _n_workers(work, jobs)
                rows.append(_row(work, seconds, _n_workers(work, jobs), jobs, costs.peak))
                planned.append(replace(work.planned, sample=_sample_rows(work, Path(folder))))
                once_s = 0.0
    return tuple(rows), tuple(planned)


def _n_workers(work: Open, jobs: int) -> int:
    return min(jobs, max(len(work.shards), 1))


def _in_workers(todo: Sequence[Open], folder: Path, jobs: int) -> _Costs:
    """Measure in all workers at once, which share memory and caches, and return their means."""
    n_workers = min(jobs, sum(len(work.shards) for work in todo))
    told = [_told(work, folder, n_workers) for work in todo]
    units = [{"tasks": [pieces[i] for pieces in told]} for i in range(n_workers)]
    start = time.perf_counter()
    results = run_units(f"{__name__}:measure", units, jobs=max(2, n_workers))
    done = [costs for _, costs in results]
    whole_s = time.perf_counter() - start

    def mean(name: str, i: int) -> float:
        return fmean(costs[name][i] for costs in done)

    return _Costs(
        start_s=max(0.0, whole_s - max(costs["whole_s"] for costs in done)),
        load_s=fmean(costs["load_s"] for costs in done),
        first_s=tuple(mean("first_s", i) for i in range(len(todo))),
        per_audio_s=tuple(mean("per_audio_s", i) for i in range(len(todo))),
        peak=max(costs["peak"] for costs in done),
    )


def _told(work: Open, folder: Path, n_workers: int) -> list[list[dict[str, Any]]]:
    """Return what each worker is told of a task: units like a run's, of other batches each."""
    plan = work.planned.plan
    store = _store(work, folder)
    plan_path(store).parent.mkdir(parents=True, exist_ok=True)
    plan_path(store).touch()  # the store is open
    pieces = pieces_of(work.shards, n_workers)
    clip_s = plan.task.sample_duration_s
    return [
        [make_unit(store, pooling_of(plan.task), plan.spec, piece, clip_s) for piece in own]
        for own in pieces
    ]


def _store(work: Open, folder: Path) -> Path:
    plan = work.planned.plan
    return store_folder(folder, plan.spec.label, plan.task.name)


def pieces_of(shards: Sequence[Shard], n_workers: int) -> list[list[Shard]]:
    """Return pieces for each worker: batches of all shards in random order, first a few at once.

    A worker whose share is a single batch has it twice, first to warm.
    """
    batches = [(shard, batch) for shard in shards for batch in shard.batches()]
    order = np.random.default_rng(0).permutation(len(batches))
    pieces = []
    for i in range(n_workers):
        mine = [batches[k] for k in order[i::n_workers][:MOST_BATCHES]] or [batches[order[0]]]
        pieces.append(list(_grouped(mine if len(mine) > 1 else 2 * mine, i)))
    return pieces


def _grouped(
    batches: Sequence[tuple[Shard, tuple[PlannedClip, ...]]], worker: int
) -> Sequence[Shard]:
    """Return batches in pieces of ascending size, each of one split's batches."""
    left = list(batches)
    pieces: list[Shard] = []
    while left:
        size = PIECES[len(pieces)] if len(pieces) < len(PIECES) else 2 * PIECES[-1]
        first = left[0][0]
        places = [i for i, one in enumerate(left) if one[0].split == first.split][:size]
        taken = [left[i] for i in places]
        left = [one for i, one in enumerate(left) if i not in places]
        key = sha256_bytes(f"{worker} {len(pieces)} {first.key}".encode())
        parts = [batch for _, batch in taken]
        clips, sizes = tuple(clip for part in parts for clip in part), tuple(map(len, parts))
        pieces.append(replace(first, key=key, clips=clips, batch_sizes=sizes))
    return pieces


def _sample_rows(work: Open, folder: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Return the rows of the clips that were encoded, "<split>/<clip>" -> [n_rows, n_values]."""
    found: dict[str, npt.NDArray[np.float32]] = {}
    store = _store(work, folder)
    for split, clips in work.planned.plan.task.clips.items():
        for path in rows_path(store, split, "").parent.glob("*.rows"):
            record = read_record(store, split, path.stem)
            if record is None or not record.n_rows:
                continue
            n_values = record.n_layers * record.dim
            values = np.fromfile(path, np.float32, sum(record.n_rows) * n_values)
            parts = np.split(values.reshape(-1, n_values), np.cumsum(record.n_rows)[:-1])
            names = (clips[index].name for index in record.indices)
            found |= {f"{split}/{name}": rows for name, rows in zip(names, parts, strict=True)}
    return found


def _row(work: Open, seconds: float, n_workers: int, jobs: int, peak: int) -> Estimate:
    plan = work.planned.plan
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
    """Load the encoder of some tasks and encode pieces of each; the life of a worker."""
    import torch  # noqa: F401 - what a process spends once is no part of loading an encoder

    start = time.perf_counter()
    spec = spec_of(unit["tasks"][0][0]["spec"])
    with one_thread(spec.device):
        load(spec.encoder, unit["tasks"][0][0]["device"], spec.precision)
    load_s = time.perf_counter() - start
    measured = [_measured(pieces) for pieces in unit["tasks"]]
    return {
        "load_s": load_s,
        "first_s": [first_s for first_s, _ in measured],
        "per_audio_s": [per_audio_s for _, per_audio_s in measured],
        "peak": peak_bytes(),
        "whole_s": time.perf_counter() - start,
    }


def _measured(pieces: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Return what the first piece costs besides its audio, and seconds per second of audio."""
    first = _encoded(pieces[0])
    seconds = audio_s = 0.0
    for piece in pieces[1:]:
        spent = _encoded(piece)
        seconds, audio_s = seconds + spent[0], audio_s + spent[1]
        if seconds >= MEASURED_S:
            break
    per_audio_s = seconds / max(audio_s, 1e-9)
    return max(0.0, first[0] - first[1] * per_audio_s), per_audio_s


def _encoded(piece: Mapping[str, Any]) -> tuple[float, float]:
    start = time.perf_counter()
    done = encode_unit(dict(piece), lambda _: None)
    return time.perf_counter() - start, float(done["audio_s"])
