"""Encode clips again, batch by batch as they were encoded first: frames that are not stored."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mambabench.errors import EncoderError, StoreError
from mambabench.extract.encode import BatchLimit, EncodeJob, encode_shard
from mambabench.extract.unit import clip_of, one_thread, spec_of
from mambabench.models.registry import load_encoder
from mambabench.store.again import AGAIN, frames_sha256
from mambabench.store.plan import Shard

if TYPE_CHECKING:
    from mambabench.models.encoder import LoadedEncoder

__all__ = ["MOST_KEPT_BYTES", "Encoding", "encoding"]

MOST_KEPT_BYTES = 1 << 28  # of frames that were encoded last
HalfFrames = npt.NDArray[np.float16]  # [n_frames, n_layers, dim]


class Encoding:
    """One store's frames. Threads take turns; the batches encoded last stay in memory."""

    def __init__(self, directory: Path, recipe: dict[str, Any]) -> None:
        """`recipe` is what `AGAIN` holds."""
        self._directory, self._recipe = directory, recipe
        self._spec = spec_of(recipe["spec"])
        self._lock = threading.Lock()
        self._encoder: LoadedEncoder | None = None
        self._limit = BatchLimit()
        self._kept: OrderedDict[tuple[str, int], dict[str, HalfFrames]] = OrderedDict()
        self._batch_of = {
            (split, clip["name"]): number
            for split, batches in recipe["batches"].items()
            for number, batch in enumerate(batches)
            for clip in batch["clips"]
        }

    def __call__(self, split: str, clip: str) -> HalfFrames:
        """Return the frames of a clip.

        Raises StoreError where they are not those that `extract` saw, EncoderError where the
        encoder is another.
        """
        key = split, self._batch_of[split, clip]
        with self._lock:
            batch = self._kept.get(key)
            if batch is None:
                batch = self._kept[key] = self._encoded(*key)
                while len(self._kept) > 1 and self._n_bytes() > MOST_KEPT_BYTES:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
        if clip not in batch:
            raise StoreError(
                f"{split}/{clip} can no longer be encoded: restore its file, or remove "
                f"{self._directory} and extract again"
            )
        return batch[clip]

    def _n_bytes(self) -> int:
        return sum(frames.nbytes for batch in self._kept.values() for frames in batch.values())

    def _encoded(self, split: str, number: int) -> dict[str, HalfFrames]:
        planned = self._recipe["batches"][split][number]
        clips = tuple(clip_of(clip) for clip in planned["clips"])
        shard = Shard("", split, clips, (len(clips),), planned["rate_hz"])
        spec = self._spec
        found = {}
        with one_thread(spec.device), ThreadPoolExecutor(1) as readers:
            job = EncodeJob(self._loaded(), "frames", spec.layers, self._limit)
            for rows in encode_shard(job, shard, readers, lambda clips, seconds: None):
                if rows.embeddings is not None:
                    frames = rows.embeddings.astype(np.float16)
                    self._check(f"{split}/{rows.clip.name}", frames)
                    found[rows.clip.name] = frames
        return found

    def _check(self, clip: str, frames: HalfFrames) -> None:
        if frames_sha256(frames) != self._recipe["frames_sha256"].get(clip):
            raise StoreError(
                f"{self._directory / AGAIN}: the frames of {clip} are not those that extract saw: "
                "its file has changed, or another processor or version computes them; remove the "
                "folder and extract again here"
            )

    def _loaded(self) -> LoadedEncoder:
        if self._encoder is None:
            spec = self._spec
            dtype = None if spec.precision == "fp32" else spec.precision
            encoder = load_encoder(spec.encoder, device=spec.device, dtype=dtype)
            if encoder.identity != spec.identity:
                raise EncoderError(
                    f"encoder {spec.encoder!r} has identity {encoder.identity[:8]}, "
                    f"{self._directory} was made with {spec.identity[:8]}: restore its weights, or "
                    "remove that folder and extract again"
                )
            self._encoder = encoder
        return self._encoder


def encoding(directory: Path, recipe: dict[str, Any]) -> Encoding:
    """Return what encodes the frames of a store again, by the recipe that it holds."""
    return Encoding(directory, recipe)
