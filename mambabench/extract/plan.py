"""Lay down, before the first clip is encoded, which clips form which batch and which shard.

Everything follows from the plan alone: any number of workers, an interrupted run and a run on many
machines give the same bytes, because a batch is always made of the same clips.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path

from mambabench.benchmarks.layout.read import SOURCES
from mambabench.benchmarks.task import AudioPart, Clip, Task
from mambabench.errors import DataError
from mambabench.extract.audio import choose_rate, find_audio, read_header
from mambabench.files import canonical_json
from mambabench.reading.audio import AudioHeader, find_file
from mambabench.selfhash import seen
from mambabench.store.plan import EncoderSpec, PlannedClip, Shard, TaskPlan, task_files

__all__ = ["Budget", "plan_task"]

PLAN_VERSION = 1  # changes with anything that changes the bytes of a shard


@dataclass(frozen=True)
class Budget:
    """How much audio goes into one batch and one shard; part of the plan."""

    batch_s: float
    shard_s: float


def plan_task(task: Task, spec: EncoderSpec, budget: Budget) -> TaskPlan:
    """Read the headers of the task's audio and cut it into batches and shards."""
    sourced = any(clip.source for clips in task.clips.values() for clip in clips)
    headers = lru_cache(maxsize=None)(read_header)  # stored crops share a file
    rate_hz = _source_rate(task, headers) if sourced else choose_rate(task, spec.sample_rate_hz)
    shards: list[Shard] = []
    for split in task.splits:
        clips = _headers(task, split, rate_hz, headers)
        shards += _shards(split, clips, rate_hz, budget)
    keyed = tuple(_with_key(shard, task, spec) for shard in shards)
    content = [shard.key for shard in keyed], {n: _hash(b) for n, b in task_files(task).items()}
    return TaskPlan(task, spec, rate_hz, keyed, _hash(canonical_json(content)))


def _headers(
    task: Task, split: str, rate_hz: int, headers: Callable[[Path], AudioHeader]
) -> list[PlannedClip]:
    """Return the split's clips with their lengths, in samples at `rate_hz`.

    A clip whose header cannot be read keeps the place that it would have after its repair, where
    the task has clips of one length, so that mending it disturbs no other shard; it fails by name
    when its shard is encoded.
    """
    folder = task.directory / str(rate_hz) / split
    assumed = round(task.sample_duration_s * rate_hz) if task.sample_duration_s else 0
    clips = []
    looks = lru_cache(maxsize=None)(seen)
    for index, clip in enumerate(task.clips[split]):
        path = find_file(clip.source.path) if clip.source else find_audio(folder, clip.name)
        part = _part(clip)
        look = looks(path)
        try:
            header = headers(path)
            n_frames, n_bytes = header.n_frames, header.n_bytes
            if clip.source and header.sample_rate_hz != rate_hz:
                n_frames = round(n_frames * rate_hz / header.sample_rate_hz)
        except DataError:
            n_frames, n_bytes = assumed, -1
        if part is not None and part.duration_s is not None and n_frames:
            n_frames = min(n_frames, round(part.duration_s * rate_hz))
        clips.append(
            PlannedClip(index, clip.name, os.path.abspath(path), n_frames, n_bytes, part, look)
        )
    return clips


def _part(clip: Clip) -> AudioPart | None:
    source = clip.source
    if source is None:
        return None
    return AudioPart(source.start_s, source.duration_s, source.gain_db, source.trim_silence)


def _source_rate(task: Task, headers: Callable[[Path], AudioHeader]) -> int:
    """Return the lowest sample rate of the files that the task points at."""
    rates = set()
    for clips in task.clips.values():
        for clip in clips:
            path = None if clip.source is None else find_file(clip.source.path)
            if path is None or not path.is_file():
                continue
            with suppress(DataError):  # told when it is encoded
                rates.add(headers(path).sample_rate_hz)
    if rates:
        return min(rates)
    raise DataError(
        f"task {task.name}: none of the files that {task.directory / SOURCES} points at can be "
        "read; prepare the task again from where its corpus lies now"
    )


def _shards(
    split: str, clips: Sequence[PlannedClip], rate_hz: int, budget: Budget
) -> Iterator[Shard]:
    """Yield shards without keys: batches of equal length, shortest first, as budgets allow."""
    members: list[PlannedClip] = []
    sizes: list[int] = []
    used = 0
    for batch in _batches(clips, rate_hz, budget.batch_s):
        n_frames = sum(clip.n_frames for clip in batch)
        if members and used + n_frames > budget.shard_s * rate_hz:
            yield Shard("", split, tuple(members), tuple(sizes), rate_hz)
            members, sizes, used = [], [], 0
        members += batch
        sizes.append(len(batch))
        used += n_frames
    if members:
        yield Shard("", split, tuple(members), tuple(sizes), rate_hz)


def _batches(
    clips: Sequence[PlannedClip], rate_hz: int, batch_s: float
) -> Iterator[list[PlannedClip]]:
    ordered = sorted(clips, key=lambda clip: (clip.n_frames, clip.index))
    for n_frames, group in groupby(ordered, key=lambda clip: clip.n_frames):
        size = max(1, int(batch_s * rate_hz / n_frames)) if n_frames else 1
        same = list(group)
        for start in range(0, len(same), size):
            yield same[start : start + size]


def _with_key(shard: Shard, task: Task, spec: EncoderSpec) -> Shard:
    content = asdict(spec)
    del content["encoder"], content["label"]
    if spec.frames == "store":
        del content["frames"]
    content["version"] = PLAN_VERSION
    content["embedding_type"] = task.embedding_type
    content["split"] = shard.split
    content["rate_hz"] = shard.rate_hz
    content["batch_sizes"] = shard.batch_sizes
    content["clips"] = [(c.index, c.name, c.n_frames, c.n_bytes) for c in shard.clips]
    if task.pooling != "scene":
        content["pooling"] = task.pooling
    if any(clip.part for clip in shard.clips):
        content["parts"] = [asdict(clip.part) for clip in shard.clips if clip.part]
        if any(clip.part.trim_silence for clip in shard.clips if clip.part):
            content["silence_gate"] = 2  # after the gain
    return replace(shard, key=_hash(canonical_json(content)))


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
