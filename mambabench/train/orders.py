"""In which order an epoch takes the clips: a function of seed and epoch, never of rank or worker.

An order is one array of clip indices for all ranks; step s takes the next `batch` of them and every
rank a slice of those. So two ranks see together what one would see alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.errors import ProtocolError

__all__ = [
    "balanced_order",
    "buffered_order",
    "part_of",
    "plain_order",
    "published_order",
    "shards_of_reader",
    "shuffle_buffer",
    "steps_per_epoch",
    "stream",
]

Order = npt.NDArray[np.int64]
Array = npt.NDArray[Any]


def stream(*parts: int | str) -> np.random.Generator:
    """Return the random stream that belongs to `parts`: seed, epoch, place of a clip, purpose."""
    key = [zlib.crc32(p.encode()) if isinstance(p, str) else p for p in parts]
    return np.random.default_rng(key)


def plain_order(n: int, seed: int, epoch: int) -> Order:
    """Return a permutation: every clip once."""
    return stream(seed, epoch, "order").permutation(n).astype(np.int64)


def balanced_order(weights: Array, seed: int, epoch: int) -> Order:
    """Return as many draws with replacement as there are clips, each with its weight."""
    shares = np.asarray(weights, np.float64) / np.sum(weights)
    return stream(seed, epoch, "order").choice(len(shares), size=len(shares), p=shares)


def _through_buffer(order: Iterator[int], size: int, rng: np.random.Generator) -> Iterator[int]:
    """Yield from a buffer of `size` that the order refills: what leaves it is drawn at random."""
    buffer: list[int] = []
    for item in order:
        if len(buffer) < size:
            buffer.append(item)
            continue
        place = int(rng.integers(len(buffer)))
        yield buffer[place]
        buffer[place] = item
    rng.shuffle(buffer)
    yield from buffer


def buffered_order(shards: Sequence[Sequence[int]], buffer: int, seed: int, epoch: int) -> Order:
    """Return every record once: shards shuffled, then their records through a buffer.

    Reading stays local to about `buffer` records, as streaming does, while the order is known in
    advance and belongs to no worker.
    """
    rng = stream(seed, epoch, "order")
    records = (i for shard in rng.permutation(len(shards)) for i in shards[int(shard)])
    return np.fromiter(_through_buffer(records, buffer, rng), np.int64)


def shards_of_reader(n_tars: int, rank: int, worker: int, world: int, workers: int) -> list[int]:
    """Return which places of the shuffled list of tars a reader takes, as SSAM's trainer does."""
    return list(range(worker * world + rank, n_tars, world * workers))


def shuffle_buffer(multiplier: int, batch: int, workers: int, world: int) -> int:
    """Return the records in a reader's shuffling buffer: SSAM's rule."""
    return multiplier * batch * 10 // (workers * world)


def steps_per_epoch(n_samples: int, batch: int, world: int = 1) -> int:
    """Return whole steps in `n_samples`; the rest is left out."""
    return n_samples // (batch * world)


def published_order(
    shards: Sequence[Sequence[int]],
    *,
    n_steps: int,
    batch: int,
    readers: tuple[int, int],
    buffer: int,
    seed: int,
    epoch: int,
) -> Order:
    """Return SSAM's order: each (rank, worker) of `readers` streams its own tars for ever.

    batch: clips per rank. A step's clips are those of rank 0, then of rank 1, ...; a rank takes
    its workers in turn. Not a pass: a reader with few tars comes round again while another has not
    ended. ProtocolError where a reader would get no tar: it would wait for ever.
    """
    world, workers = readers
    if len(shards) < world * workers:
        raise ProtocolError(
            f"{len(shards)} tars for {world} ranks x {workers} readers: some readers would get "
            "none and wait for ever; use fewer workers, more tars, or mode sound"
        )
    tars = stream(seed, epoch, "tars").permutation(len(shards))
    streams = [
        [
            _endless(
                [shards[int(tars[i])] for i in shards_of_reader(len(tars), r, w, world, workers)],
                buffer,
                stream(seed, epoch, r, w),
            )
            for w in range(workers)
        ]
        for r in range(world)
    ]
    rows = [
        next(streams[rank][step % workers])
        for step in range(n_steps)
        for rank in range(world)
        for _ in range(batch)
    ]
    return np.array(rows, np.int64)


def _endless(
    shards: Sequence[Sequence[int]], buffer: int, rng: np.random.Generator
) -> Iterator[int]:
    def records() -> Iterator[int]:
        while True:
            for shard in rng.permutation(len(shards)):
                yield from shards[int(shard)]

    return _through_buffer(records(), buffer, rng)


def part_of(n: int, part: int, n_parts: int) -> slice:
    """Return the slice of `n` clips that belongs to one of `n_parts`; sizes differ by at most 1."""
    return slice(n * part // n_parts, n * (part + 1) // n_parts)
