"""One way to open embeddings, whichever layout they lie in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mambabench.errors import StoreError, nearest_names
from mambabench.selfhash import sha256_of_json
from mambabench.store import hear_eval_kit_read
from mambabench.store.again import RowsAgain
from mambabench.store.embeddings import (
    LAYOUTS,
    EmbeddingSet,
    StoredTask,
    array_path,
    open_array,
    present_clips,
    read_manifest,
    stored_task,
)

__all__ = ["content_sha256", "hold", "list_stored_tasks", "read_embeddings"]


_held: dict[Path, dict[str, EmbeddingSet]] = {}


def hold(directory: Path, sets: dict[str, EmbeddingSet]) -> None:
    """Have `read_embeddings` return what is in memory for one folder, which need not be here; what
    was held before is let go of."""
    _held.clear()
    _held[directory] = sets


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
            stored = stored_task(directory)
        else:
            stored = hear_eval_kit_read.stored_task(directory)
        if stored is not None:
            found.append(stored)
    return tuple(sorted(found, key=lambda one: (one.encoder, one.task.name)))


def read_embeddings(stored: StoredTask, split: str) -> EmbeddingSet:
    """Open one sealed split, memory-mapped.

    Every array is hashed when it is opened first in a process, and again only where its size, time
    or inode changed. Raises StoreError where the split is unknown or a file is missing, of another
    size or of another hash than the manifest says.
    """
    if split not in stored.task.splits:
        near = nearest_names(split, stored.task.splits)
        raise StoreError(f"{stored.directory} has no split named {split!r}{near}")
    if stored.directory in _held:
        return _held[stored.directory][split]
    if stored.layout == "hear-eval-kit":
        return hear_eval_kit_read.read_split(stored, split)
    manifest = read_manifest(stored.directory)
    if manifest is None:
        raise StoreError(f"{stored.directory} is not sealed: finish `mambabench extract` first")
    arrays: dict[str, Any] = {
        name: open_array(array_path(stored.directory, split, name), entry)
        for name, entry in manifest["splits"][split]["arrays"].items()
    }
    names = tuple(clip.name for clip in present_clips(stored, split))
    if stored.frames == "recompute":
        arrays["embeddings"] = RowsAgain(stored.directory, split, names, arrays["offsets"])
    return EmbeddingSet(
        split=split,
        clip_names=names,
        embeddings=arrays["embeddings"],
        offsets=arrays["offsets"],
        timestamps_ms=arrays.get("timestamps"),
    )


def content_sha256(stored: StoredTask) -> str:
    """Return one hash over all arrays of a store: equal stores of embeddings, equal hashes.

    It is computed from the hashes that the manifest states; `read_embeddings` holds them against
    the arrays. Raises StoreError where the store is not sealed.
    """
    if stored.layout == "hear-eval-kit":
        return hear_eval_kit_read.content_sha256(stored)
    manifest = read_manifest(stored.directory)
    if manifest is None:
        raise StoreError(f"{stored.directory} is not sealed: finish `mambabench extract` first")
    arrays = {
        split: {name: array["sha256"] for name, array in entry["arrays"].items()}
        for split, entry in manifest["splits"].items()
    }
    again = {"frames": manifest["frames_sha256"]} if "frames_sha256" in manifest else {}
    return sha256_of_json(arrays | again)
