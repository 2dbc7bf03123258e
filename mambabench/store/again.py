"""Frames that no disk holds: how to encode them again, and rows that do so when they are read.

A store made with ``--frames recompute`` has number, times and hash of every clip's frames, and
``frames.json``: which batches of clips the encoder was given. Encoding the same batches again gives
the same bytes; where it does not (another processor or version), the hash says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mambabench.errors import StoreError
from mambabench.files import sha256_bytes, sha256_file
from mambabench.plugins import resolve
from mambabench.selfhash import parse_hashed, write_hashed_json
from mambabench.store.plan import TaskPlan

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["AGAIN", "ClipAgain", "EncodesAgain", "RowsAgain", "frames_sha256", "write_again"]

AGAIN = "frames.json"
_SCHEMA = "mambabench.frames/1"
_ENCODING = "mambabench.extract.again:encoding"  # a name: encoders are called a floor above


class EncodesAgain(Protocol):
    """What encodes clips again."""

    def __call__(self, split: str, clip: str) -> npt.NDArray[np.float16]:
        """Return the frames [n_frames, n_layers, dim] of a clip; StoreError if they changed."""


def frames_sha256(embeddings: npt.NDArray[np.floating]) -> str:
    """Return the hash of frames as they would be stored: in half precision."""
    return sha256_bytes(embeddings.astype("<f2").tobytes())


def write_again(directory: Path, plan: TaskPlan, frames: dict[str, str]) -> str:
    """Write how to encode the frames of a plan again; return the hash of the file.

    `frames` is "<split>/<clip>" -> hash of its frames.
    """
    batches: dict[str, list[Any]] = {split: [] for split in plan.task.splits}
    for shard in plan.shards:
        for clips in shard.batches():
            # how a file looks is no part of a result
            plain = [asdict(replace(clip, seen=None)) for clip in clips]
            batches[shard.split].append({"rate_hz": shard.rate_hz, "clips": plain})
    spec = plan.spec
    body = {
        "schema": _SCHEMA,
        "spec": asdict(spec),
        "n_layers": 1 if spec.layers is None else len(spec.layers),
        "dim": spec.timestamp_embedding_size,
        "batches": batches,
        "frames_sha256": frames,
    }
    write_hashed_json(directory / AGAIN, body)
    return sha256_file(directory / AGAIN)


def _read(directory: Path) -> dict[str, Any]:
    path = directory / AGAIN
    try:
        body = json.loads(path.read_bytes())
        parse_hashed(path.read_bytes())
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(
            f"{path} cannot be read ({error}): remove its folder and extract again"
        ) from error
    if body.get("schema") != _SCHEMA:
        raise StoreError(
            f"{path} has schema {body.get('schema')!r}, this version reads {_SCHEMA!r}: remove its "
            "folder and extract again"
        )
    assert isinstance(body, dict)
    return body


@lru_cache(maxsize=4)
def _opened(directory: Path, look: tuple[int, int]) -> tuple[dict[str, Any], EncodesAgain]:
    """Return what the file says and what encodes by it; `look` tells a changed file."""
    body = _read(directory)
    return body, resolve(_ENCODING)(directory, body)


def _open(directory: Path) -> tuple[dict[str, Any], EncodesAgain]:
    try:
        stat = (directory / AGAIN).stat()
    except OSError as error:
        raise StoreError(
            f"{directory / AGAIN} is missing: remove its folder and extract again"
        ) from error
    return _opened(directory, (stat.st_mtime_ns, stat.st_size))


class RowsAgain:
    """The frames of one split as an array [n_rows, n_layers, dim] that is encoded when read."""

    ndim = 3

    def __init__(
        self,
        directory: Path,
        split: str,
        names: Sequence[str],
        offsets: npt.NDArray[np.int64],
    ) -> None:
        """`names` are the clips that have frames, clip i from row `offsets[i]` on."""
        import numpy as np

        body, self._frames = _open(directory)
        self._split, self._names, self._offsets = split, tuple(names), offsets
        self._hashes: dict[str, str] = body["frames_sha256"]
        self.shape = (int(offsets[-1]), int(body["n_layers"]), int(body["dim"]))
        self.dtype = np.dtype(np.float16)

    def __len__(self) -> int:
        """Return the number of frames."""
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """Return rows: those of one clip are encoded when they are read, others at once."""
        import numpy as np

        if isinstance(key, slice) and key.step in (None, 1):
            start, stop, _ = key.indices(len(self))
            clip = int(np.searchsorted(self._offsets, start, side="right")) - 1
            if start < stop <= self._offsets[clip + 1]:
                first = int(self._offsets[clip])
                return ClipAgain(self, clip, start - first, stop - first)
        return np.asarray(self)[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Encode all clips."""
        import numpy as np

        parts = [self.of(clip) for clip in range(len(self._names))]
        whole = np.concatenate(parts) if parts else np.zeros(self.shape, np.float16)
        return whole.astype(dtype) if dtype is not None else whole

    def of(self, clip: int) -> npt.NDArray[np.float16]:
        """Return the frames of the clip of that number."""
        return self._frames(self._split, self._names[clip])

    def frames_sha256(self, name: str) -> str:
        """Return the hash of a clip's frames."""
        return self._hashes[f"{self._split}/{name}"]


@dataclass(frozen=True)
class ClipAgain:
    """Frames `start` to `stop` of one clip: they are in memory only while they are used."""

    rows: RowsAgain
    clip: int
    start: int
    stop: int

    ndim = 3

    def __len__(self) -> int:
        """Return the number of frames."""
        return self.stop - self.start

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return [n_frames, n_layers, dim]."""
        return len(self), self.rows.shape[1], self.rows.shape[2]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return that of stored frames."""
        return self.rows.dtype

    def __getitem__(self, key: Any) -> Any:
        """Return fewer frames, still not encoded, or what numpy makes of another key."""
        import numpy as np

        if isinstance(key, slice) and key.step in (None, 1):
            start, stop, _ = key.indices(len(self))
            return replace(self, start=self.start + start, stop=self.start + max(start, stop))
        return np.asarray(self)[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Encode the clip."""
        found = self.rows.of(self.clip)[self.start : self.stop]
        return found.astype(dtype) if dtype is not None else found
