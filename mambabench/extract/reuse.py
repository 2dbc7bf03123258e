"""A clip is encoded once: its rows are taken from another task of the same encoder.

Tasks share recordings: the emotions and the speakers of one corpus are the same clips. A clip is
known by the encoder's identity and settings, the pooling, and the SHA-256 of its file. How many
clips are encoded together can change an embedding's last bits, so that known rows are believed
only for a shape of batch (clips, samples) on which they have turned out to be, byte for byte, what
the encoder gives; the first such batch of each shape is encoded all the same, and an encoder whose
rows differ is asked every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mambabench.errors import StoreError
from mambabench.store.embeddings import EmbeddingSet, StoredTask, read_manifest, stored_task
from mambabench.store.open import read_embeddings
from mambabench.store.plan import EncoderSpec, pooling_of
from mambabench.store.sources import read_sources

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Known", "known_rows"]


class EncodedRows(NamedTuple):
    """What a batch is encoded to."""

    embeddings: npt.NDArray[np.float32]  # [n_clips, n_rows, n_layers, dim]
    times_ms: npt.NDArray[np.float32] | None  # [n_clips, n_rows]


@dataclass
class Known:
    """The rows of one encoder's sealed tasks by the content of their clips."""

    clips: dict[str, tuple[EmbeddingSet, int]] = field(default_factory=dict)  # SHA-256 -> place
    stores: set[Path] = field(default_factory=set)  # that are in `clips`
    trusted: set[tuple[int, int]] = field(default_factory=set)  # (clips, samples) of a batch
    doubted: bool = False  # rows differed: none is taken any more
    n_reused: int = 0  # clips

    def find(self, sha256: Sequence[str]) -> EncodedRows | None:
        """Return the rows of clips with these contents; None where one is not known."""
        if self.doubted or any(one not in self.clips for one in sha256):
            return None
        embeddings, times = [], []
        for one in sha256:
            stored, place = self.clips[one]
            start, stop = stored.offsets[place : place + 2]
            embeddings.append(np.asarray(stored.embeddings[start:stop]))
            if stored.timestamps_ms is not None:
                times.append(np.asarray(stored.timestamps_ms[start:stop]))
        if len({len(rows) for rows in embeddings}) != 1:
            return None
        return EncodedRows(np.stack(embeddings), np.stack(times) if times else None)

    def judge(self, shape: tuple[int, int], known: EncodedRows, fresh: EncodedRows) -> None:
        """Trust batches of `shape` from now on if `known` is `fresh`, else trust nothing."""
        if _same(known.embeddings, fresh.embeddings) and _same(known.times_ms, fresh.times_ms):
            self.trusted.add(shape)
        else:
            self.doubted = True


def _same(one: npt.NDArray[np.float32] | None, other: npt.NDArray[np.float32] | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and one.tobytes() == other.tobytes()


_known: dict[tuple[Path, str, EncoderSpec], Known] = {}  # of the encoder used last


def known_rows(store: Path, pooling: str, spec: EncoderSpec) -> Known:
    """Return what the tasks beside `store` know, by now, of this encoder with these settings."""
    key = (store.parent, pooling, spec)
    if key not in _known:
        _known.clear()
        _known[key] = Known()
    found = _known[key]
    for folder in sorted(store.parent.iterdir()):
        if folder != store and folder not in found.stores and _fits(folder, pooling, spec):
            found.stores.add(folder)
            _add(found, folder)
    return found


def _fits(folder: Path, pooling: str, spec: EncoderSpec) -> bool:
    """Say whether the sealed task in `folder` is of this encoder, settings and whole files."""
    try:
        manifest = read_manifest(folder)
        if manifest is None or manifest["encoder_identity"] != spec.identity:
            return False
        layers = None if spec.layers is None else list(spec.layers)
        settings = {"layers": layers, "precision": spec.precision, "device": spec.device}
        if any(manifest[name] != value for name, value in settings.items()):
            return False
        if manifest.get("frames", "store") != "store":
            return False  # its rows are nowhere
        stored = stored_task(folder)
    except (StoreError, KeyError):
        return False  # damaged, which whoever reads it is told
    if stored is None or pooling_of(stored.task) != pooling:
        return False
    return not any(clip.source for clips in stored.task.clips.values() for clip in clips)


def _add(known: Known, folder: Path) -> None:
    stored = stored_task(folder)
    sources = read_sources(folder)
    if stored is None or sources is None:
        return
    for split in stored.task.splits:
        rows = _open(stored, split)
        hashes = sources.sha256.get(split, {})
        for place, name in enumerate(rows.clip_names if rows is not None else ()):
            if rows is not None and name in hashes:
                known.clips.setdefault(hashes[name], (rows, place))


def _open(stored: StoredTask, split: str) -> EmbeddingSet | None:
    """Open one split; None where it is damaged or has been rounded."""
    try:
        rows = read_embeddings(stored, split)
    except StoreError:
        return None
    return rows if rows.embeddings.dtype == np.float32 else None
