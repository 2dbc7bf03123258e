"""Say what probes would take, from a few trials of each: on what is stored, or on made-up rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt
import torch

from mambabench.benchmarks.task import Clip
from mambabench.engine.jobs import Job, Stopped
from mambabench.errors import MambabenchError
from mambabench.probe.data import TaskRows
from mambabench.probe.plan import ProbePlan, ProbeUnit
from mambabench.probe.protocols import Protocol
from mambabench.probe.units import unit_steps
from mambabench.store.embeddings import EmbeddingSet, StoredTask
from mambabench.store.estimate import Estimate, PlannedTask, peak_bytes

__all__ = ["OpenCell", "estimate", "stand_in"]

TRIALS = 4  # that are trained, spread over the grid
MEASURED_S = 10.0  # after which no further one begins; twice that ends one


@dataclass(frozen=True)
class OpenCell:
    """What is left to do of one encoder on one task under one protocol."""

    stored: StoredTask
    protocol: Protocol
    n_units: int
    planned: PlannedTask | None = None  # where nothing is stored yet


def estimate(cells: Sequence[OpenCell], n_threads: int) -> tuple[Estimate, ...]:
    """Return a row per cell. The first seed's trials are samples; no record is written.

    They run on a thread of one core, as the trials of a run do.
    """
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as thread:
        return tuple(thread.map(lambda cell: _row(cell, n_threads), cells))


def stand_in(planned: PlannedTask) -> StoredTask:
    """Return the stored task that a plan will become, without its arrays."""
    spec = planned.plan.spec
    task = planned.plan.task
    return StoredTask(task.directory, spec.label, spec.identity, task, spec.layers, {})


def _row(cell: OpenCell, n_threads: int) -> Estimate:
    seconds, note = None, ""
    if not cell.n_units:
        seconds, note = 0.0, "there already"
    else:
        try:
            once, unit = _measured(cell)
            seconds = once + unit * cell.n_units / min(n_threads, cell.n_units * TRIALS)
        except MambabenchError as error:
            note = str(error)
    n_test = sum(len(clips) for clips in cell.stored.task.clips.values())
    return Estimate(
        stage="probe",
        encoder=cell.stored.encoder,
        task=cell.stored.task.name,
        n=cell.n_units,
        seconds=seconds,
        disk_bytes=cell.n_units * n_test * min(len(cell.stored.task.labels), 50) * 4,
        memory_bytes=peak_bytes(),
        note=note,
    )


def _measured(cell: OpenCell) -> tuple[float, float]:
    """Return the seconds that are spent once, and those of one seed on one thread.

    Once: what is imported, read and compiled before the first trial.
    """
    rows = _Made(cell.stored, cell.planned, cell.protocol.kit) if cell.planned else None
    stop = threading.Event()
    plan = ProbePlan(rows or TaskRows(cell.stored, kit=cell.protocol.kit), cell.protocol, stop)
    first_s, jobs = _set_up(plan)
    setup_s, _ = _set_up(plan)
    n_jobs = len(jobs)
    if cell.protocol.kit:
        n_jobs += len(plan.rows.folds) - 1  # the best point again, on the other folds
    step = max(1, len(jobs) // TRIALS)
    chosen = jobs[step // 2 :: step][:TRIALS]
    warm_s = _timed(chosen[0], stop)  # reads rows and compiles
    spent: list[float] = []
    for job in chosen:
        spent.append(_timed(job, stop))
        if sum(spent) > MEASURED_S or stop.is_set():
            break
    once = max(0.0, first_s - setup_s) + max(0.0, warm_s - spent[0])
    return once, setup_s + fmean(spent) * n_jobs


def _set_up(plan: ProbePlan) -> tuple[float, list[Job]]:
    """Return the seconds that it takes to lay down a seed's trials, and these."""
    start = time.perf_counter()
    jobs = list(next(unit_steps(ProbeUnit(plan, 0, ""))))
    return time.perf_counter() - start, jobs


def _timed(job: Job, stop: threading.Event) -> float:
    """Return what a trial takes; one that is too long is ended and counts twice."""
    timer = threading.Timer(2 * MEASURED_S, stop.set)
    timer.daemon = True
    timer.start()
    start = time.perf_counter()
    try:
        job.run()
    except Stopped:
        return 2 * (time.perf_counter() - start)
    finally:
        timer.cancel()
    return time.perf_counter() - start


class _Made(TaskRows):
    """Rows of the right shape: every label has a place of its own, and clips lie around it."""

    def __init__(self, stored: StoredTask, planned: PlannedTask, kit: bool) -> None:
        if stored.task.prediction_type not in ("multiclass", "multilabel"):
            raise MambabenchError(
                "not known before the embeddings are there: extract, then `probe --dry-run`"
            )
        super().__init__(stored, kit=kit)
        self._planned = planned
        frames = planned.frames_per_s > 0
        spec = planned.plan.spec
        self._dim = spec.timestamp_embedding_size if frames else spec.scene_embedding_size
        self._dim *= 1 if spec.layers is None else len(spec.layers)
        self._places = np.random.default_rng(0).standard_normal(
            (len(stored.task.labels), self._dim), dtype=np.float32
        )

    def _embeddings(self, split: str) -> EmbeddingSet:
        clips = self.task.clips[split]
        if self._planned.frames_per_s:
            return self._frames(split, clips)
        where = {label: i for i, label in enumerate(self.task.labels)}
        centres = np.stack([self._centre([where[x] for x in clip.labels]) for clip in clips])
        offsets = np.arange(len(clips) + 1, dtype=np.int64)
        return self._set(split, clips, centres, offsets, None)

    def _frames(self, split: str, clips: Sequence[Clip]) -> EmbeddingSet:
        rate = self._planned.frames_per_s
        lengths = _lengths_s(self._planned, split)
        times = [
            (1000 * (np.arange(max(1, int(lengths[clip.name] * rate))) + 0.5) / rate)
            for clip in clips
        ]
        where = {label: i for i, label in enumerate(self.task.labels)}
        centres = np.concatenate(
            [
                np.stack(
                    [
                        self._centre(
                            [where[e.label] for e in clip.events if e.start_ms <= t < e.end_ms]
                        )
                        for t in at
                    ]
                )
                for clip, at in zip(clips, times, strict=True)
            ]
        )
        offsets = np.concatenate([[0], np.cumsum([len(at) for at in times])]).astype(np.int64)
        return self._set(split, clips, centres, offsets, np.concatenate(times).astype(np.float32))

    def _centre(self, labels: list[int]) -> npt.NDArray[np.float32]:
        if not labels:
            return np.zeros(self._dim, np.float32)
        return np.asarray(self._places[labels].mean(axis=0), np.float32)

    def _set(
        self,
        split: str,
        clips: Sequence[Clip],
        centres: npt.NDArray[np.float32],
        offsets: npt.NDArray[np.int64],
        times: npt.NDArray[np.float32] | None,
    ) -> EmbeddingSet:
        noise = np.random.default_rng(1).standard_normal(centres.shape, dtype=np.float32)
        rows = (0.3 * centres + noise)[:, None, :]
        return EmbeddingSet(split, tuple(clip.name for clip in clips), rows, offsets, times)


def _lengths_s(planned: PlannedTask, split: str) -> dict[str, float]:
    return {
        clip.name: clip.n_frames / shard.rate_hz
        for shard in planned.plan.shards
        if shard.split == split
        for clip in shard.clips
    }
