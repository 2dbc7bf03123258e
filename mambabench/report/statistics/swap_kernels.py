"""Merge the ranks of two encoders, and score both sides of an exchange without numba."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.report.statistics.ranking import sorted_marks, sweep_numpy

__all__ = ["merge", "sweep_both_sides"]

Array = npt.NDArray[Any]


def merge(
    order: Array, falling: Array, other_order: Array, other_falling: Array, positive: Array
) -> tuple[Array, Array, Array]:
    """Return the entries of two encoders by falling key, their marks and their ranks in the pool.

    order int32: clips by falling key, falling float64: these keys, positive bool by clip, each
    [n_labels, n_clips]. Entries and marks are what `sweep_both_sides` takes; ranks int32
    [n_labels, 2 n] are by clip (+ n for the other encoder's), the best 0, equal for equal keys.
    """
    return _kernel()(order, falling, other_order, other_falling, positive)


@cache
def _kernel() -> Callable[..., tuple[Array, Array, Array]]:
    try:
        import numba
    except ImportError:
        return _merge_numpy
    compiled: Callable[..., tuple[Array, Array, Array]]
    compiled = numba.njit(nogil=True, cache=True)(_merge)
    return compiled


def _merge(
    order: Array, falling: Array, other_order: Array, other_falling: Array, positive: Array
) -> tuple[Array, Array, Array]:
    """Merge the two sorted lists of every label; mark groups of one key that hold a positive."""
    n_labels, n = order.shape
    entries = np.empty((n_labels, 2 * n), np.int32)
    marks = np.zeros((n_labels, 2 * n), np.uint8)
    places = np.empty((n_labels, 2 * n), np.int32)
    for label in range(n_labels):
        i = j = group = 0
        while i + j < 2 * n:
            begin = i + j
            best = -np.inf
            if i < n:
                best = falling[label, i]
            if j < n:
                best = max(best, other_falling[label, j])
            holds = False
            while i < n and falling[label, i] == best:
                clip = order[label, i]
                entries[label, i + j] = clip
                places[label, clip] = group
                marks[label, i + j] = positive[label, clip]
                holds = holds or positive[label, clip]
                i += 1
            while j < n and other_falling[label, j] == best:
                clip = other_order[label, j]
                entries[label, i + j] = clip + n
                places[label, clip + n] = group
                marks[label, i + j] = positive[label, clip]
                holds = holds or positive[label, clip]
                j += 1
            if holds:
                marks[label, begin] += 2
                marks[label, i + j - 1] += 4
            group += 1
    return entries, marks, places


def _merge_numpy(
    order: Array, falling: Array, other_order: Array, other_falling: Array, positive: Array
) -> tuple[Array, Array, Array]:
    """Do what `_merge` does by sorting, where numba cannot be imported."""

    both = np.empty((len(order), 2 * order.shape[1]))
    np.put_along_axis(both, order.astype(np.int64), falling, axis=1)
    np.put_along_axis(both, other_order.astype(np.int64) + order.shape[1], other_falling, axis=1)
    entries, marks = sorted_marks(np.concatenate([positive] * 2, axis=1).T, both.T)
    merged = np.take_along_axis(both, entries.astype(np.int64), axis=1)
    places = np.zeros(entries.shape, np.int32)
    group = np.cumsum(merged[:, 1:] != merged[:, :-1], axis=1)
    np.put_along_axis(places, entries[:, 1:].astype(np.int64), group.astype(np.int32), axis=1)
    return entries, marks, places


def sweep_both_sides(order: Array, marks: Array, kept: Array) -> tuple[Array, Array]:
    """Return average precision and AUC of both sides, each [2, n_labels, n_blocks, lanes] float64.

    For where numba cannot be imported: two weighted sweeps. order [n_labels, 2 n] int32: entries of
    falling rank, the clip's index, plus n for the other encoder's entry; marks alike uint8 as in
    `ranking`; kept [n_blocks, n, lanes] uint8: 1 where a clip's predictions stay. NaN for a label
    without positives or negatives.
    """

    changed = 1 - kept
    sides = [
        sweep_numpy(order, marks, np.concatenate(pair, axis=1))
        for pair in ((kept, changed), (changed, kept))
    ]
    return np.stack([side[0] for side in sides]), np.stack([side[1] for side in sides])
