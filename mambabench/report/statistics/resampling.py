"""The test clips that a score rests on, and how they are drawn again.

Clips are exchangeable within their fold; clips of one cluster (speaker, recording, session) are
drawn together. The draws follow from the clips' names alone, so all encoders of a task share them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mambabench.files import canonical_json

__all__ = [
    "N_PERMUTATIONS",
    "N_RESAMPLES",
    "FoldClips",
    "FoldDraws",
    "TestClips",
    "draw",
    "fold_draws",
    "shared",
    "signs",
]

N_RESAMPLES = 2000
N_PERMUTATIONS = 19_999
_FEWEST_CLUSTERS = 10  # that are drawn within their fold

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class FoldClips:
    """The test clips of one fold, sorted by name."""

    name: str
    clips: tuple[str, ...]
    clusters: tuple[str, ...]  # parallel; "" where unknown


@dataclass(frozen=True)
class TestClips:
    """All test clips of a task, as independent units: clusters where all are named, else clips."""

    __test__ = False  # not a pytest class

    folds: tuple[FoldClips, ...]

    @cached_property
    def clustered(self) -> bool:
        """Whether every clip names its cluster."""
        return all(all(fold.clusters) for fold in self.folds)

    @cached_property
    def key(self) -> str:
        """Content hash of folds, clips and clusters: the seed of every draw."""
        content = [[fold.name, fold.clips, fold.clusters] for fold in self.folds]
        return hashlib.sha256(canonical_json(content)).hexdigest()

    @cached_property
    def unit_of(self) -> tuple[Array, ...]:
        """Per fold, the unit's number of each clip: int64 [n_clips]."""
        names: list[list[str]] = [
            [f"c/{cluster}" for cluster in fold.clusters]
            if self.clustered
            else [f"{fold.name}/{clip}" for clip in fold.clips]
            for fold in self.folds
        ]
        number: dict[str, int] = {}
        return tuple(
            np.array([number.setdefault(name, len(number)) for name in fold], np.int64)
            for fold in names
        )

    @cached_property
    def n_units(self) -> int:
        """Number of independent units."""
        return 1 + max(int(units.max()) for units in self.unit_of)

    @cached_property
    def n_clips(self) -> int:
        """Distinct test clips over all folds."""
        return len({clip for fold in self.folds for clip in fold.clips})

    @cached_property
    def strata(self) -> tuple[Array, ...]:
        """The units that are drawn from among each other.

        Those of one fold; all units at once where a unit lies in several folds or a fold has fewer
        than ten clusters (or a single clip): drawn within folds, so few would vary too little.
        """
        per_fold = tuple(np.unique(units) for units in self.unit_of)
        fewest = _FEWEST_CLUSTERS if self.clustered else 2
        if sum(map(len, per_fold)) > self.n_units or min(map(len, per_fold)) < fewest:
            return (np.arange(self.n_units),)
        return per_fold


_last_clips: list[TestClips] = []  # one: encoders of a task come one after another


def shared(test: TestClips) -> TestClips:
    """Return the test clips last seen where these are equal: what follows from them is known."""
    if not _last_clips or _last_clips[0] != test:
        _last_clips[:] = [test]
    return _last_clips[0]


_last_drawn: dict[tuple[str, int], Array] = {}  # one: encoders of a task come one after another


def draw(test: TestClips, n_resamples: int = N_RESAMPLES) -> Array:
    """Return how often each unit is drawn: uint8 [n_units, n_resamples], the same for ever.

    Every stratum is drawn with replacement to its own size. The array is shared: it is read-only.
    """
    found = _last_drawn.get((test.key, n_resamples))
    if found is None:
        found = _drawn(test, n_resamples)
        found.flags.writeable = False
        _last_drawn.clear()
        _last_drawn[test.key, n_resamples] = found
    return found


class FoldDraws(NamedTuple):
    """What one fold has of every draw."""

    some: Array  # [n_resamples] bool: whether any of its clips was drawn
    share: Array  # [n_resamples] float64: its clips that were drawn, by their number
    weights: Array  # uint8 [n_clips, n]: how often each was drawn, where `some`


_last_folds: dict[str, tuple[FoldDraws, ...]] = {}  # one, as above


def fold_draws(test: TestClips) -> tuple[FoldDraws, ...]:
    """Return of every fold what `draw` drew of it."""
    if test.key not in _last_folds:
        drawn = draw(test)
        _last_folds.clear()
        _last_folds[test.key] = tuple(_of_fold(drawn, units) for units in test.unit_of)
    return _last_folds[test.key]


def _of_fold(drawn: Array, units: Array) -> FoldDraws:
    in_order = len(units) == len(drawn) and bool((np.diff(units) == 1).all())
    weights = drawn if in_order else drawn[units]
    some = np.asarray(weights.any(axis=0))
    share = weights.sum(axis=0, dtype=np.uint32) / len(units)
    return FoldDraws(some, share, weights if some.all() else weights[:, some])


def _drawn(test: TestClips, n_resamples: int) -> Array:
    rng = np.random.default_rng(int(test.key[:32], 16))
    counts = np.zeros((test.n_units, n_resamples), np.uint8)
    for units in test.strata:
        size = len(units)
        step = max(1, 4_000_000 // size)  # keep the index matrix in the cache of the machine
        for start in range(0, n_resamples, step):
            width = min(step, n_resamples - start)
            picks = rng.integers(0, size, (width, size))
            picks += np.arange(width)[:, None] * size
            drawn = np.bincount(picks.ravel(), minlength=width * size).reshape(width, size)
            counts[units, start : start + width] = np.minimum(drawn, 255).T
    return counts


def signs(
    key: str, n_units: int, n_permutations: int = N_PERMUTATIONS, step: int = 1000
) -> Iterator[Array]:
    """Yield the signs of a permutation test in chunks: float64 [<= step, n_units] of +-1.

    Every sign vector once where there are at most `n_permutations` of them, else random ones,
    after the identity: the share of vectors at least as extreme is then a valid p-value.
    """
    if 2**n_units <= n_permutations + 1:
        numbers = np.arange(2**n_units)
        bits = numbers[:, None] >> np.arange(n_units) & 1
        for start in range(0, len(bits), step):
            yield 1.0 - 2.0 * bits[start : start + step]
        return
    rng = np.random.default_rng([int(key[:32], 16), 1])
    yield np.ones((1, n_units))
    for start in range(0, n_permutations, step):
        rows = min(step, n_permutations - start)
        raw = np.frombuffer(rng.bytes(rows * -(-n_units // 8)), np.uint8).reshape(rows, -1)
        yield np.unpackbits(raw, axis=1)[:, :n_units] * 2.0 - 1.0
