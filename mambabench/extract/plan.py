"""Lay down, before the first clip is encoded, which clips form which batch and which shard.

Everything follows from the plan alone: any number of workers, an interrupted run and a run on many
machines give the same bytes, because a batch is always made of the same clips.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import groupby

from mambabench.benchmarks.kinds import KINDS
from mambabench.benchmarks.layout import SOURCES
from mambabench.benchmarks.task import Clip, Task
from mambabench.errors import DataError
from mambabench.extract.audio import AudioPart, choose_rate, find_audio, read_header
from mambabench.files import canonical_json

__all__ = [
    "Budget",
    "EncoderSpec",
    "PlannedClip",
    "Shard",
    "TaskPlan",
    "plan_task",
    "pooling_of",
    "task_files",
]

PLAN_VERSION = 1  # changes with anything that changes the bytes of a shard


@dataclass(frozen=True)
class EncoderSpec:
    """Which encoder, how run: all that a worker needs to load it, and what it must turn out as."""

    encoder: str  # as the user gave it, "E" or "E@PATH"
    label: str
    identity: str
    sample_rate_hz: int
    scene_embedding_size: int
    timestamp_embedding_size: int
    layers: tuple[int, ...] | None
    precision: str
    device: str  # as the encoder reports it: "cpu", "cuda"


@dataclass(frozen=True)
class Budget:
    """How much audio goes into one batch and one shard; part of the plan."""

    batch_s: float
    shard_s: float


@dataclass(frozen=True)
class PlannedClip:
    """One clip to be encoded."""

    index: int  # in the split's json
    name: str
    path: str
    n_frames: int  # at the file's rate; 0 where the header could not be read
    n_bytes: int
    part: AudioPart | None = None  # None: the whole file, as it is


@dataclass(frozen=True)
class Shard:
    """A run of batches that is encoded, committed and resumed as one."""

    key: str  # hash of everything that its bytes depend on
    split: str
    clips: tuple[PlannedClip, ...]  # in the order of encoding
    batch_sizes: tuple[int, ...]  # how many of `clips`, in turn, form a batch
    rate_hz: int  # of the files

    @property
    def duration_s(self) -> float:
        """Return the seconds of audio in the shard."""
        return sum(clip.n_frames for clip in self.clips) / self.rate_hz

    def batches(self) -> Iterator[tuple[PlannedClip, ...]]:
        """Yield the clips of each batch."""
        start = 0
        for size in self.batch_sizes:
            yield self.clips[start : start + size]
            start += size


@dataclass(frozen=True)
class TaskPlan:
    """Everything that one encoder does on one task."""

    task: Task
    spec: EncoderSpec
    rate_hz: int  # of the audio folder that is read
    shards: tuple[Shard, ...]
    key: str  # hash over shards and the task's own files

    @property
    def duration_s(self) -> float:
        """Return the seconds of audio in the task."""
        return sum(shard.duration_s for shard in self.shards)


def plan_task(task: Task, spec: EncoderSpec, budget: Budget) -> TaskPlan:
    """Read the headers of the task's audio and cut it into batches and shards."""
    sourced = any(clip.source for clips in task.clips.values() for clip in clips)
    rate_hz = _source_rate(task) if sourced else choose_rate(task, spec.sample_rate_hz)
    shards: list[Shard] = []
    for split in task.splits:
        clips = _headers(task, split, rate_hz)
        shards += _shards(split, clips, rate_hz, budget)
    keyed = tuple(_with_key(shard, task, spec) for shard in shards)
    content = [shard.key for shard in keyed], {n: _hash(b) for n, b in task_files(task).items()}
    return TaskPlan(task, spec, rate_hz, keyed, _hash(canonical_json(content)))


def task_files(task: Task) -> dict[str, bytes]:
    """Return the task's small files: what a store keeps of them, so that probing needs no audio."""
    import json

    names = ["task_metadata.json", "labelvocabulary.csv"]
    names += [f"{split}.json" for split in task.splits]
    files = {name: (task.directory / name).read_bytes() for name in names}
    clusters = json.loads(files["task_metadata.json"].decode("utf-8-sig")).get("clusters")
    if isinstance(clusters, str):
        files[clusters] = (task.directory / clusters).read_bytes()
    own = any(clip.source for clips in task.clips.values() for clip in clips)
    for name in (*((SOURCES,) if own else ()), *KINDS[task.prediction_type].relations):
        if (task.directory / name).is_file():
            files[name] = (task.directory / name).read_bytes()
    return files


def pooling_of(task: Task) -> str:
    """Return what is stored of a clip: "scene", "time_mean" (of its frames) or "frames"."""
    return "frames" if task.embedding_type == "event" else task.pooling


def _headers(task: Task, split: str, rate_hz: int) -> list[PlannedClip]:
    """Return the split's clips with their lengths.

    A clip whose header cannot be read keeps the place that it would have after its repair, where
    the task has clips of one length, so that mending it disturbs no other shard; it fails by name
    when its shard is encoded.
    """
    folder = task.directory / str(rate_hz) / split
    assumed = round(task.sample_duration_s * rate_hz) if task.sample_duration_s else 0
    clips = []
    headers = lru_cache(maxsize=None)(read_header)  # stored crops share a file
    for index, clip in enumerate(task.clips[split]):
        path = clip.source.path if clip.source else find_audio(folder, clip.name)
        part = _part(clip)
        try:
            header = headers(path)
            n_frames, n_bytes = header.n_frames, header.n_bytes
        except DataError:
            n_frames, n_bytes = assumed, -1
        if part is not None and part.duration_s is not None and n_frames:
            n_frames = min(n_frames, round(part.duration_s * rate_hz))
        clips.append(PlannedClip(index, clip.name, str(path), n_frames, n_bytes, part))
    return clips


def _part(clip: Clip) -> AudioPart | None:
    source = clip.source
    if source is None:
        return None
    return AudioPart(source.start_s, source.duration_s, source.gain_db, source.trim_silence)


def _source_rate(task: Task) -> int:
    """Return the sample rate of the first readable file that the task points at."""
    for clips in task.clips.values():
        for clip in clips:
            if clip.source is not None and clip.source.path.is_file():
                return read_header(clip.source.path).sample_rate_hz
    raise DataError(
        f"task {task.name}: none of the files that {task.directory / SOURCES} points at exists; "
        "prepare the task again from where its corpus lies now"
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
