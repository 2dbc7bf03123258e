"""The embedding store: memory-mapped arrays per encoder, task and split, sealed by a manifest.

``OUT/embeddings/<encoder key>/<task>/`` holds, once sealed, the task's own text files, three
arrays per split and ``manifest.json``, written last: a reader trusts nothing without it. The format
is described in docs/file-formats.md.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.benchmarks.layout.read import load_task
from mambabench.benchmarks.task import Clip
from mambabench.errors import StoreError
from mambabench.reading.arrays import UNREADABLE
from mambabench.reading.fields import check_fields
from mambabench.selfhash import HashMismatchError, parse_hashed, sha256_once

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mambabench.benchmarks.task import Task

__all__ = [
    "LAYOUTS",
    "MANIFEST",
    "STORE_SCHEMA",
    "EmbeddingSet",
    "StoredTask",
    "array_path",
    "check_file",
    "encoder_key",
    "open_array",
    "read_manifest",
    "require_frames",
    "store_folder",
    "stored_task",
]

STORE_SCHEMA = "mambabench.store/2"
_ARRAYS_HASHED_ONLY = "mambabench.store/1"  # no hash of the manifest itself nor of the text files
MANIFEST = "manifest.json"
LAYOUTS = ("store", "hear-eval-kit")


@dataclass(frozen=True)
class EmbeddingSet:
    """The embeddings of one split, in the order of the split's json.

    Scene tasks have one row per clip; timestamp tasks one row per frame, clip i owning the rows
    ``offsets[i]:offsets[i + 1]``. Clips that could not be embedded are left out. In hear-eval-kit's
    layout the order is that of its files: shuffled.
    """

    split: str
    clip_names: tuple[str, ...]
    # [n_rows, n_layers, dim], memory-mapped; float16 where a task keeps frames of all layers
    # (encoded at reading where the store has none: `store/again.py`)
    embeddings: npt.NDArray[np.float32]
    offsets: npt.NDArray[np.int64]  # [n_clips + 1]
    timestamps_ms: npt.NDArray[np.float32] | None  # [n_rows], timestamp tasks only


@dataclass(frozen=True)
class StoredTask:
    """One encoder's embeddings of one task, as far as its manifest says."""

    directory: Path  # OUT/embeddings/<encoder>/<task>
    encoder: str  # the encoder's label
    encoder_identity: str  # 64 hex digits
    task: Task  # read from the store's own copy of metadata and labels: needs no audio
    layers: tuple[int, ...] | None  # None: the encoder's own output
    missing: dict[str, str]  # "<split>/<clip>" -> reason, for clips that could not be embedded
    layout: str = "store"  # or "hear-eval-kit"
    warnings: dict[str, str] = field(default_factory=dict)  # of clips embedded all the same
    precision: str = ""  # of the encoder; "" where unknown
    sample_rate_hz: int | None = None  # the encoder's
    resampled_from_hz: int | None = None  # the audio's, where that is another
    frames: str = "store"  # or "recompute": the rows of frames are encoded when they are read


def encoder_key(label: str) -> str:
    """Return the folder name for an encoder's label.

    Registered names and dotted modules stay as they are; of a path the last part is kept and eight
    hex digits of the label's hash tell equal names apart.
    """
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._@+=-]*", label):
        return label
    last = re.sub(r"[^A-Za-z0-9._@+=-]+", "_", label.rstrip("/").rpartition("/")[2]).lstrip("._-")
    return f"{last or 'encoder'}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"


def store_folder(out: Path, label: str, task: str) -> Path:
    """Return the folder of one encoder's embeddings of one task."""
    return out / "embeddings" / encoder_key(label) / task


def array_path(directory: Path, split: str, array: str) -> Path:
    """Return the path of a split's array: "embeddings", "offsets" or "timestamps"."""
    return directory / f"{split}.{array}.npy"


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """Return the manifest of a sealed store, None where there is none.

    Raises StoreError where it cannot be read, has not the hash that it states, or is of another
    format version.
    """
    path = directory / MANIFEST
    try:
        data = path.read_bytes()
        manifest = json.loads(data)
        schema = manifest.get("schema") if isinstance(manifest, dict) else None
        if schema not in (STORE_SCHEMA, _ARRAYS_HASHED_ONLY):
            raise StoreError(
                f"{path} has schema {schema!r}, this version reads {STORE_SCHEMA!r}: remove the "
                "folder and extract again"
            )
        assert isinstance(manifest, dict)
        whole = manifest if schema == _ARRAYS_HASHED_ONLY else parse_hashed(data)
        _check_manifest(whole)
        return whole
    except FileNotFoundError:
        return None
    except HashMismatchError as error:
        raise StoreError(
            f"{path} was edited or damaged: {error}; remove the folder and extract again"
        ) from error
    except KeyError as error:
        raise StoreError(
            f"{path} lacks the field {error}: remove the folder and extract again"
        ) from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{path} cannot be read ({error}): remove the folder and extract again"
        ) from error


@dataclass(frozen=True)
class _ManifestHead:
    """What a manifest says of all splits."""

    encoder: str
    encoder_identity: str
    task: str
    layers: tuple[int, ...] | None
    missing: dict[str, str]


@dataclass(frozen=True)
class _ManifestRest:
    """What older ones do not say."""

    files: dict[str, str]
    warnings: dict[str, str]
    precision: str
    sample_rate_hz: int | None
    resampled_from_hz: int | None
    frames: str


@dataclass(frozen=True)
class _ManifestArray:
    """What it says of an array."""

    bytes: int
    sha256: str
    shape: tuple[int, ...]


def _check_manifest(manifest: dict[str, Any]) -> None:
    """Raise KeyError or TypeError where a field that is read is absent or of another kind."""
    check_fields(
        _ManifestHead, {field.name: manifest[field.name] for field in fields(_ManifestHead)}
    )
    check_fields(_ManifestRest, manifest)
    for split in manifest["splits"].values():
        for name in {"offsets", *split["arrays"]}:
            entry = split["arrays"][name]
            check_fields(
                _ManifestArray, {field.name: entry[field.name] for field in fields(_ManifestArray)}
            )


def stored_task(directory: Path) -> StoredTask | None:
    """Return the sealed store in one folder, None where there is none; StoreError if damaged."""
    manifest = read_manifest(directory)
    if manifest is None:
        return None
    layers = manifest["layers"]
    for name, sha256 in manifest.get("files", {}).items():
        check_file(directory / name, sha256)
    return StoredTask(
        directory=directory,
        encoder=manifest["encoder"],
        encoder_identity=manifest["encoder_identity"],
        task=load_task(directory, manifest["task"]),
        layers=None if layers is None else tuple(layers),
        missing=dict(manifest["missing"]),
        warnings=dict(manifest.get("warnings", {})),
        precision=manifest.get("precision", ""),
        sample_rate_hz=manifest.get("sample_rate_hz"),
        resampled_from_hz=manifest.get("resampled_from_hz"),
        frames=manifest.get("frames", "store"),
    )


def require_frames(stored: StoredTask, frames: str) -> None:
    """Refuse (StoreError) to run an encoder at every step unless `frames` is "recompute"."""
    if stored.frames != frames == "store":
        raise StoreError(
            f"{stored.directory} holds no frames, only how to encode them again: give --frames "
            "recompute (the encoder then runs at every step), or remove the folder and extract "
            "with --frames store"
        )


def check_file(path: Path, sha256: str) -> None:
    """Raise StoreError, naming the remedy, where `path` has not the hash `sha256`."""
    try:
        found = sha256_once(path)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be opened ({error}): remove its folder and extract again"
        ) from error
    if found != sha256:
        raise StoreError(
            f"{path} is damaged: its bytes have not the hash that was stored with it; remove its "
            "folder and extract again, or let `mambabench verify --fix` move it aside"
        )


def present_clips(stored: StoredTask, split: str) -> tuple[Clip, ...]:
    """Return the clips of a split that have embeddings, in the order of its json."""
    clips = stored.task.clips[split]
    return tuple(clip for clip in clips if f"{split}/{clip.name}" not in stored.missing)


def open_array(path: Path, entry: dict[str, Any]) -> npt.NDArray[Any]:
    """Open an array memory-mapped; its hash is held against the manifest the first time."""
    import numpy as np

    try:
        size = path.stat().st_size
        if size != entry["bytes"]:
            raise StoreError(
                f"{path} has {size} bytes, its manifest says {entry['bytes']}: the store is "
                "damaged; remove its folder and extract again"
            )
        check_file(path, entry["sha256"])
        # an empty array cannot be mapped
        return np.load(path, mmap_mode="r" if 0 not in entry["shape"] else None, allow_pickle=False)  # type: ignore[no-any-return]
    except UNREADABLE as error:
        raise StoreError(
            f"{path} cannot be opened ({error}): remove its folder and extract again"
        ) from error
