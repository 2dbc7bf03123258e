"""Random numbers of a trial: initial weights, order of the rows, dropout masks.

A trial has generators of its own, seeded by what the trial is (task, protocol, seed, fold, grid
point), never by what ran before it. The exact stream of hear-eval-kit is the other case: all trials
of a run share one generator, and draws that no result depends on are drawn too.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mambabench.probe.heads.with_numba import kernels, numba_available

__all__ = ["MaskStream", "TrialStreams", "stream_seed"]

_LEFT = slice(8, 12)  # int32: words left, plus one
_NEXT = slice(16, 24)  # uint64: index of the next word
_STATE = slice(24, 24 + 624 * 8)  # 624 words as uint64


def stream_seed(*parts: object) -> int:
    """Return a 63-bit seed that is a hash of `parts` (their texts)."""
    text = "\x1f".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


class MaskStream:
    """Dropout masks from a torch CPU generator, packed 32 rows of the batch to a word.

    `draw` gives the very masks that ``torch.empty(batch, units).bernoulli_(keep)`` gives. With
    `shared` the generator is left where torch would leave it; without, it is read once.
    """

    def __init__(self, generator: torch.Generator, *, shared: bool) -> None:
        self._generator = generator
        self._shared = shared
        self._compiled = layout_is_known()
        self._state: npt.NDArray[np.uint32] = np.empty(0, np.uint32)
        self._left = self._position = 0
        if self._compiled and not shared:
            self._load(generator.get_state().numpy())

    def _load(self, raw: npt.NDArray[np.uint8]) -> None:
        self._state = raw[_STATE].view(np.uint64).astype(np.uint32)
        self._left = int(raw[_LEFT].view(np.int32)[0])
        self._position = int(raw[_NEXT].view(np.uint64)[0])

    def draw(self, batch: int, units: int, keep: float, bits: npt.NDArray[np.uint32]) -> None:
        """Fill bits[: ceil(batch / 32), :units]; all kept without a draw if keep is 1."""
        if keep >= 1.0:
            bits[:] = 0xFFFFFFFF
            return
        if not self._compiled:
            mask = self.dense(batch, units, keep)
            bits[: (batch + 31) // 32, :units] = _packed(mask.numpy() > 0)
            return
        self._drawn(kernels().draw_mask, batch, units, keep, bits)

    def _drawn(
        self,
        draw: Callable[..., tuple[int, int]],
        batch: int,
        units: int,
        keep: float,
        out: npt.NDArray[Any],
    ) -> None:
        """Let a kernel fill `out`, and move the generator on by what it has drawn."""
        raw = self._generator.get_state() if self._shared else None
        if raw is not None:
            self._load(raw.numpy())
        self._left, self._position = draw(
            self._state, self._left, self._position, batch, units, _limit(keep), out
        )
        if raw is not None:
            view = raw.numpy()
            view[_LEFT].view(np.int32)[0] = self._left
            view[_NEXT].view(np.uint64)[0] = self._position
            view[_STATE].view(np.uint64)[:] = self._state
            self._generator.set_state(raw)

    def dense(self, batch: int, units: int, keep: float) -> torch.Tensor:
        """Return the same mask as float32 [batch, units] of 0 and 1."""
        if keep >= 1.0:
            return torch.ones(batch, units)
        mask = torch.empty(batch, units)
        if not self._compiled:
            return mask.bernoulli_(keep, generator=self._generator)
        self._drawn(kernels().draw_dense, batch, units, keep, mask.numpy())
        return mask


@functools.lru_cache(maxsize=16)
def _limit(keep: float) -> npt.NDArray[np.uint32]:
    limit = math.ceil(keep * 2.0**53)
    return np.array([limit >> 32, limit & 0xFFFFFFFF], np.uint32)


def _packed(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
    batch, units = mask.shape
    padded = np.zeros((-(-batch // 32) * 32, units), np.uint32)
    padded[:batch] = mask
    shifts = np.arange(32, dtype=np.uint32)[None, :, None]
    words = padded.reshape(-1, 32, units) << shifts
    packed: npt.NDArray[np.uint32] = np.bitwise_or.reduce(words, axis=1)
    return packed


@functools.cache
def layout_is_known() -> bool:
    """Say whether the compiled mask stream equals torch's here (its state's layout is private)."""
    if not numba_available():
        return False
    generator = torch.Generator().manual_seed(20211)
    torch.rand(5, generator=generator)
    raw = generator.get_state().numpy().copy()
    if raw.size < _STATE.stop:
        return False
    expected = torch.empty(37, 45).bernoulli_(0.9, generator=generator).numpy() > 0
    bits = np.zeros((2, 45), np.uint32)
    state = raw[_STATE].view(np.uint64).astype(np.uint32)
    left, position = int(raw[_LEFT].view(np.int32)[0]), int(raw[_NEXT].view(np.uint64)[0])
    left, position = kernels().draw_mask(state, left, position, 37, 45, _limit(0.9), bits)
    after = generator.get_state().numpy()
    return (
        bool((bits == _packed(expected)).all())
        and left == int(after[_LEFT].view(np.int32)[0])
        and position == int(after[_NEXT].view(np.uint64)[0])
        and bool((state == after[_STATE].view(np.uint64)).all())
    )


class TrialStreams:
    """The generators of one trial; `exact` ones are shared by all trials of a run."""

    def __init__(self, seed: int, *, exact: bool = False) -> None:
        self.exact = exact
        self.generator = torch.Generator().manual_seed(seed)
        if exact:
            self.masks = MaskStream(self.generator, shared=True)
        else:
            own = torch.Generator().manual_seed(stream_seed(seed, "masks"))
            self.masks = MaskStream(own, shared=False)

    def summarised(self, dim: int) -> None:
        """Draw what the kit's model summary draws at the start of every trial."""
        if self.exact:
            torch.rand(64, dim, generator=self.generator)

    def iterated(self) -> None:
        """Draw what the kit's data loader draws at the start of every pass over a split."""
        if self.exact:
            torch.empty((), dtype=torch.int64).random_(generator=self.generator)

    def order(self, n: int) -> torch.Tensor:
        """Return a new permutation of n rows, int64."""
        return torch.randperm(n, generator=self.generator)
