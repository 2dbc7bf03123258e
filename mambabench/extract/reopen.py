"""Open a sealed store again where clips have changed: only their shards are to be encoded anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mambabench.errors import StoreError
from mambabench.store.again import RowsAgain
from mambabench.store.embeddings import StoredTask
from mambabench.store.open import read_embeddings
from mambabench.store.plan import PlannedClip, Shard, TaskPlan
from mambabench.store.seal import claim, locked
from mambabench.store.shards import ClipRows, commit_shard, drop_shard
from mambabench.store.sources import SourceFiles, read_sources

__all__ = ["reopen", "shards_of"]


def shards_of(plan: TaskPlan, changed: Mapping[str, tuple[str, ...]]) -> dict[str, Shard]:
    """Return key -> shard of those that hold a changed clip; `changed` is split -> clips."""
    wanted = {(split, clip) for split, clips in changed.items() for clip in clips}
    return {
        shard.key: shard
        for shard in plan.shards
        if any((shard.split, clip.name) in wanted for clip in shard.clips)
    }


def reopen(layout: Any, directory: Path, plan: TaskPlan, *, full: bool) -> dict[str, Shard]:
    """Turn a sealed store into a half filled one that lacks the shards of changed clips.

    `layout` is the module that sealed it. The rows of all other shards are taken from the store,
    after its arrays were held against their hashes. Returns key -> shard of what is to be encoded:
    nothing where another process has mended it meanwhile. Raises StoreError where it is damaged.
    """
    with locked(directory):
        changed = layout.changed_clips(directory, plan, full=full)
        redo = shards_of(plan, changed)
        stored = layout.stored_task(directory)
        if not redo or stored is None:
            return {}
        claim(directory, plan)
        sources = read_sources(directory, getattr(layout, "PREFIX", "")) or SourceFiles({})
        rows = {split: _SealedRows(stored, split, sources) for split in plan.task.splits}
        for shard in plan.shards:
            if shard.key in redo:
                drop_shard(directory, shard)
            elif commit_shard(directory, shard, rows[shard.split].of(shard)) is None:
                raise StoreError(
                    f"{directory} is being sealed by another process: give the same command again "
                    "when it has ended"
                )
        layout.unseal(directory)
    return redo


class _SealedRows:
    """The rows of one sealed split, clip by clip."""

    def __init__(self, stored: StoredTask, split: str, sources: SourceFiles) -> None:
        self._missing = stored.missing
        self._split = split
        self._hashes = sources.sha256.get(split, {})
        self._set = read_embeddings(stored, split)
        self._place = {name: i for i, name in enumerate(self._set.clip_names)}

    def of(self, shard: Shard) -> Iterator[ClipRows]:
        for clip in shard.clips:
            yield self._clip(clip)

    def _clip(self, clip: PlannedClip) -> ClipRows:
        sha256 = self._hashes.get(clip.name)
        if clip.name not in self._place:
            reason = self._missing[f"{self._split}/{clip.name}"]
            return ClipRows(clip, None, None, sha256, reason)
        start, stop = self._set.offsets[self._place[clip.name] :][:2]
        times = self._set.timestamps_ms
        rows = self._set.embeddings
        again = isinstance(rows, RowsAgain)
        return ClipRows(
            clip,
            np.empty((stop - start, rows.shape[1], 0), np.float32)
            if again
            else np.asarray(rows[start:stop], np.float32),
            None if times is None else np.asarray(times[start:stop], np.float32),
            sha256,
            None,
            frames_sha256=rows.frames_sha256(clip.name) if isinstance(rows, RowsAgain) else None,
        )
