"""The embedding store: memory-mapped arrays per encoder, task and split, sealed by a manifest.

``OUT/embeddings/<encoder key>/<task>/`` holds, once sealed, the task's own text files, three
arrays per split and ``manifest.json``, written last: a reader trusts nothing without it. The format
is described in docs/file-formats.md.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.benchmarks.layout.read import load_task
from mambabench.benchmarks.task import Clip
from mambabench.errors import StoreError, nearest_names
from mambabench.files import read_json
from mambabench.reading.arrays import UNREADABLE

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
    "encoder_key",
    "list_stored_tasks",
    "read_embeddings",
    "read_manifest",
    "store_folder",
]

STORE_SCHEMA = "mambabench.store/1"
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

    Raises StoreError where it cannot be read or is of another format version.
    """
    path = directory / MANIFEST
    try:
        manifest = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path} cannot be read ({error}): remove the folder and extract again"
        ) from error
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if schema != STORE_SCHEMA:
        raise StoreError(
            f"{path} has schema {schema!r}, this version reads {STORE_SCHEMA!r}: remove the folder "
            "and extract again"
        )
    assert isinstance(manifest, dict)
    return manifest


def list_stored_tasks(out: Path, layout: str = "store") -> tuple[StoredTask, ...]:
    """Return every sealed (encoder, task) under `out`, sorted by encoder and task.

    `layout` "hear-eval-kit" lists that kit's finished embedding directories instead. Raises
    StoreError where a store is damaged.
    """
    if layout not in LAYOUTS:
        raise StoreError(f"no layout named {layout!r}{nearest_names(layout, LAYOUTS)}")
    found = []
    for directory in sorted(p for p in (out / "embeddings").glob("*/*") if p.is_dir()):
        if layout == "store":
            stored = _stored_task(directory)
        else:
            from mambabench.store.hear_eval_kit import stored_task

            stored = stored_task(directory)
        if stored is not None:
            found.append(stored)
    return tuple(sorted(found, key=lambda one: (one.encoder, one.task.name)))


def _stored_task(directory: Path) -> StoredTask | None:
    manifest = read_manifest(directory)
    if manifest is None:
        return None
    try:
        layers = manifest["layers"]
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
        )
    except KeyError as error:
        raise StoreError(
            f"{directory / MANIFEST} lacks the field {error}: remove the folder and extract again"
        ) from error


def read_embeddings(stored: StoredTask, split: str) -> EmbeddingSet:
    """Open one sealed split, memory-mapped.

    Raises StoreError where the split is unknown or a file is missing or of another size than the
    manifest says.
    """
    if split not in stored.task.splits:
        near = nearest_names(split, stored.task.splits)
        raise StoreError(f"{stored.directory} has no split named {split!r}{near}")
    if stored.layout == "hear-eval-kit":
        from mambabench.store.hear_eval_kit import read_split

        return read_split(stored, split)
    manifest = read_manifest(stored.directory)
    if manifest is None:
        raise StoreError(f"{stored.directory} is not sealed: finish `mambabench extract` first")
    arrays = {
        name: _open_array(array_path(stored.directory, split, name), entry)
        for name, entry in manifest["splits"][split]["arrays"].items()
    }
    return EmbeddingSet(
        split=split,
        clip_names=tuple(clip.name for clip in present_clips(stored, split)),
        embeddings=arrays["embeddings"],
        offsets=arrays["offsets"],
        timestamps_ms=arrays.get("timestamps"),
    )


def present_clips(stored: StoredTask, split: str) -> tuple[Clip, ...]:
    """Return the clips of a split that have embeddings, in the order of its json."""
    clips = stored.task.clips[split]
    return tuple(clip for clip in clips if f"{split}/{clip.name}" not in stored.missing)


def _open_array(path: Path, entry: dict[str, Any]) -> npt.NDArray[Any]:
    import numpy as np

    try:
        size = path.stat().st_size
        if size != entry["bytes"]:
            raise StoreError(
                f"{path} has {size} bytes, its manifest says {entry['bytes']}: the store is "
                "damaged; remove its folder and extract again"
            )
        # an empty array cannot be mapped
        return np.load(path, mmap_mode="r" if 0 not in entry["shape"] else None, allow_pickle=False)  # type: ignore[no-any-return]
    except UNREADABLE as error:
        raise StoreError(
            f"{path} cannot be opened ({error}): remove its folder and extract again"
        ) from error
