"""What a plan is made of: the encoder, the clips of every shard, and what a task is stored with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mambabench.benchmarks.kinds import KINDS
from mambabench.benchmarks.layout.read import SOURCES
from mambabench.benchmarks.task import AudioPart, Task
from mambabench.reading.json_files import parse_json
from mambabench.reading.text import decode_text

__all__ = ["EncoderSpec", "PlannedClip", "Seen", "Shard", "TaskPlan", "pooling_of", "task_files"]

Seen = tuple[int, int, int]  # size, mtime in ns and inode of a file


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
    frames: str = "store"  # or "recompute": of a task that keeps frames, only how to make them


@dataclass(frozen=True)
class PlannedClip:
    """One clip to be encoded."""

    index: int  # in the split's json
    name: str
    path: str
    n_frames: int  # at the file's rate; 0 where the header could not be read
    n_bytes: int
    part: AudioPart | None = None  # None: the whole file, as it is
    seen: Seen | None = None  # how the file looked before it was read; no part of a key


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


def task_files(task: Task) -> dict[str, bytes]:
    """Return the task's small files: what a store keeps of them, so that probing needs no audio."""
    names = ["task_metadata.json", "labelvocabulary.csv"]
    names += [f"{split}.json" for split in task.splits]
    files = {name: (task.directory / name).read_bytes() for name in names}
    clusters = parse_json(decode_text(files["task_metadata.json"])).get("clusters")
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
