"""Commit encoded shards one by one, so that an interrupted run loses at most the one in hand.

Below ``<store>/work/<split>/`` a shard is ``<key>.rows`` (float32, C order, rows as encoded; for
timestamp tasks followed by one float32 time a row) and, written after it, ``<key>.json``: its
record. A shard without its record does not exist.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from mambabench.errors import StoreError
from mambabench.files import atomic_write, sha256_file
from mambabench.selfhash import FIELD, parse_hashed, write_hashed_json
from mambabench.store.plan import PlannedClip, Seen, Shard

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


__all__ = [
    "ClipRows",
    "ShardRecord",
    "commit_shard",
    "drop_shard",
    "is_open",
    "plan_path",
    "read_record",
    "rows_path",
    "work_folder",
]


@dataclass(frozen=True)
class ShardRecord:
    """What is in a committed shard."""

    key: str
    indices: tuple[int, ...]  # of the clips in the split's json, in the order of their rows
    n_rows: tuple[int, ...]  # of each of these clips
    n_layers: int
    dim: int
    has_timestamps: bool
    failures: dict[str, str]  # clip -> reason
    audio_sha256: dict[str, str]  # clip -> hash of its file
    n_bytes: int  # of the rows file
    sha256: str  # of the rows file
    notes: dict[str, str] = field(default_factory=dict)  # clip -> what the user must know of it
    seen: dict[str, Seen] = field(default_factory=dict)  # clip -> its file, before it was read
    # clip -> hash of its frames, where these are not kept (dim is then 0)
    frames_sha256: dict[str, str] = field(default_factory=dict)


def work_folder(store: Path) -> Path:
    """Return the folder of the shards in progress."""
    return store / "work"


def plan_path(store: Path) -> Path:
    """Return the file that says who fills the store; it goes when the store is sealed."""
    return work_folder(store) / "plan.json"


def is_open(store: Path) -> bool:
    """Tell whether the store is being filled, so not sealed by another process."""
    return plan_path(store).is_file()


def rows_path(store: Path, split: str, key: str) -> Path:
    """Return the path of a shard's rows."""
    return work_folder(store) / split / f"{key}.rows"


def read_record(store: Path, split: str, key: str) -> ShardRecord | None:
    """Return the record of a committed shard, None where it is absent, torn or its rows are."""
    path = rows_path(store, split, key)
    try:
        data = path.with_suffix(".json").read_bytes()
        value = json.loads(data)
        if value.pop(FIELD, None) is not None:  # absent where an older version wrote it
            parse_hashed(data)
        for name in ("indices", "n_rows"):
            value[name] = tuple(value[name])
        value["seen"] = {clip: tuple(look) for clip, look in value.get("seen", {}).items()}
        record = ShardRecord(**value)
        whole = path.stat().st_size == record.n_bytes
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return record if whole and record.key == key else None


def commit_shard(store: Path, shard: Shard, rows: Iterable[ClipRows]) -> ShardRecord | None:
    """Write the rows as they come, then the record.

    Returns None where another process has sealed the store meanwhile. Raises StoreError where the
    disk refuses.
    """
    writer = _Writer()
    path = rows_path(store, shard.split, shard.key)
    try:
        atomic_write(path, lambda file: writer.write(file, rows))
        record = writer.record(shard.key)
        write_hashed_json(path.with_suffix(".json"), asdict(record))
    except OSError as error:
        if not is_open(store):
            return None
        raise StoreError(
            f"cannot write {path.parent}: {error.strerror or error}; free some space or fix the "
            "folder and give the same command again: what is committed stays"
        ) from error
    return record


def drop_shard(store: Path, shard: Shard) -> None:
    """Take back a commit: the shard is to be encoded again."""
    rows_path(store, shard.split, shard.key).with_suffix(".json").unlink(missing_ok=True)


class _Writer:
    """Stream the rows of clips into one file and keep count."""

    def __init__(self) -> None:
        self._indices: list[int] = []
        self._n_rows: list[int] = []
        self._shape = (0, 0)
        self._times: list[bytes] = []
        self._failures: dict[str, str] = {}
        self._audio: dict[str, str] = {}
        self._notes: dict[str, str] = {}
        self._seen: dict[str, Seen] = {}
        self._frames: dict[str, str] = {}
        self._hash = hashlib.sha256()
        self._n_bytes = 0

    def write(self, file: BinaryIO, rows: Iterable[ClipRows]) -> None:
        for one in rows:
            self._note_source(one)
            if one.embeddings is None:
                self._failures[one.clip.name] = str(one.failure)
                continue
            if one.note is not None:
                self._notes[one.clip.name] = one.note
            if one.frames_sha256 is not None:
                self._frames[one.clip.name] = one.frames_sha256
            self._indices.append(one.clip.index)
            self._n_rows.append(len(one.embeddings))
            self._shape = (one.embeddings.shape[1], one.embeddings.shape[2])
            self._append(file, one.embeddings.tobytes())
            if one.timestamps_ms is not None:
                self._times.append(one.timestamps_ms.tobytes())
        for times in self._times:
            self._append(file, times)

    def _note_source(self, one: ClipRows) -> None:
        """Keep hash and looks of a clip's file, also of one that could not be decoded."""
        sha256 = one.audio_sha256
        if sha256 is None:
            try:
                sha256 = sha256_file(Path(one.clip.path))
            except OSError:
                return
        self._audio[one.clip.name] = sha256
        if one.clip.seen is not None:
            self._seen[one.clip.name] = one.clip.seen

    def _append(self, file: BinaryIO, data: bytes) -> None:
        file.write(data)
        self._hash.update(data)
        self._n_bytes += len(data)

    def record(self, key: str) -> ShardRecord:
        return ShardRecord(
            key=key,
            indices=tuple(self._indices),
            n_rows=tuple(self._n_rows),
            n_layers=self._shape[0],
            dim=self._shape[1],
            has_timestamps=bool(self._times),
            failures=dict(sorted(self._failures.items())),
            audio_sha256=dict(sorted(self._audio.items())),
            n_bytes=self._n_bytes,
            sha256=self._hash.hexdigest(),
            notes=dict(sorted(self._notes.items())),
            seen=dict(sorted(self._seen.items())),
            frames_sha256=dict(sorted(self._frames.items())),
        )


class ClipRows(NamedTuple):
    """What one clip came to: rows, or the reason why there are none."""

    clip: PlannedClip
    embeddings: npt.NDArray[np.float32] | None  # [n_rows, n_layers, dim]
    timestamps_ms: npt.NDArray[np.float32] | None  # [n_rows], timestamp tasks only
    audio_sha256: str | None
    failure: str | None
    note: str | None = None  # what the user must know of a clip that is embedded all the same
    frames_sha256: str | None = None  # where embeddings [n_rows, n_layers, 0] stand for frames
