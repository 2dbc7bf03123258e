"""Merge the ranks of two encoders, and score both sides of an exchange without numba."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.report.statistics.ranking import sorted_marks, sweep_numpy

__all__ = ["merge", "precision_slopes", "sweep_both_sides"]

Array = npt.NDArray[Any]


def merge(
    order: Array, key: Array, other_order: Array, other_key: Array, positive: Array
) -> tuple[Array, Array, Array]:
    """Return the entries of two encoders by falling key, their marks and their ranks in the pool.

    order int32: clips by falling key float64, positive bool, each [n_labels, n_clips]. Entries and
    marks are what `sweep_both_sides` takes; ranks int32 [n_labels, 2 n] are by clip (+ n for the
    other encoder's), the best 0, equal for equal keys.
    """
    return _kernel()(order, key, other_order, other_key, positive)


@cache
def _kernel() -> Callable[..., tuple[Array, Array, Array]]:
    try:
        import numba
    except ImportError:
        return _merge_numpy
    compiled: Callable[..., tuple[Array, Array, Array]]
    compiled = numba.njit(nogil=True, cache=True)(_merge)
    return compiled


def precision_slopes(places: Array, positive: Array) -> Array:
    """Return what a clip adds to the difference of two sides' mean average precision: [n_clips].

    To first order: places int32 [n_labels, 2 n] are ranks in the pool as of `merge`, positive bool
    [n_labels, n]; a clip's entries count with the derivative of their label's score by their
    weight.
    """
    summands, slopes = _slope_kernels()
    gained = summands(places, positive)
    n_positive = np.maximum(2 * positive.sum(axis=1), 1)
    average = gained.sum(axis=1) / n_positive
    return np.asarray(slopes(places, positive, average) / len(places))


@cache
def _slope_kernels() -> tuple[Callable[..., Array], Callable[..., Array]]:
    import numba

    compile_ = numba.njit(nogil=True, cache=True, error_model="numpy")
    return compile_(_summands), compile_(_slopes)


def _summands(places: Array, positive: Array) -> Array:
    """Return positive entries times precision of every rank, [n_labels, 2 n] float64."""
    n_labels, n = positive.shape
    gained = np.zeros((n_labels, 2 * n))
    tied = np.empty(2 * n, np.int64)
    found = np.empty(2 * n, np.int64)
    for label in range(n_labels):
        tied[:] = 0
        found[:] = 0
        for entry in range(2 * n):
            tied[places[label, entry]] += 1
            found[places[label, entry]] += positive[label, entry % n]
        above = hits = 0
        for rank in range(2 * n):
            above += tied[rank]
            if found[rank]:
                hits += found[rank]
                gained[label, rank] = found[rank] * (float(hits) / float(above))
    return gained


def _slopes(places: Array, positive: Array, average: Array) -> Array:
    """Return the slopes of every clip, summed over the labels, [n] float64."""
    n_labels, n = positive.shape
    total = np.zeros(n)
    tied = np.empty(2 * n, np.int64)
    found = np.empty(2 * n, np.int64)
    hit = np.empty(2 * n)  # derivatives by the weight of a positive entry of a rank
    miss = np.empty(2 * n)  # of a negative one
    for label in range(n_labels):
        tied[:] = 0
        found[:] = 0
        for entry in range(2 * n):
            tied[places[label, entry]] += 1
            found[places[label, entry]] += positive[label, entry % n]
        n_positive = found.sum()
        above, hits = 2 * n, n_positive
        n_positive = max(n_positive, 1)
        gain = loss = 0.0
        for rank in range(2 * n - 1, -1, -1):
            precision = float(hits) / float(max(above, 1))
            if found[rank]:
                share = float(found[rank]) / float(max(above, 1))
                gain += share
                loss += share * precision
            hit[rank] = (precision - average[label] + gain - loss) / n_positive
            miss[rank] = -loss / n_positive
            above -= tied[rank]
            hits -= found[rank]
        for clip in range(n):
            values = hit if positive[label, clip] else miss
            total[clip] += values[places[label, clip]] - values[places[label, clip + n]]
    return total


def _merge(
    order: Array, key: Array, other_order: Array, other_key: Array, positive: Array
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
                best = key[label, order[label, i]]
            if j < n:
                best = max(best, other_key[label, other_order[label, j]])
            holds = False
            while i < n and key[label, order[label, i]] == best:
                clip = order[label, i]
                entries[label, i + j] = clip
                places[label, clip] = group
                marks[label, i + j] = positive[label, clip]
                holds = holds or positive[label, clip]
                i += 1
            while j < n and other_key[label, other_order[label, j]] == best:
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
    order: Array, key: Array, other_order: Array, other_key: Array, positive: Array
) -> tuple[Array, Array, Array]:
    """Do what `_merge` does by sorting, where numba cannot be imported."""

    both = np.concatenate([key, other_key], axis=1)
    entries, marks = sorted_marks(np.concatenate([positive] * 2, axis=1).T, both.T)
    falling = np.take_along_axis(both, entries.astype(np.int64), axis=1)
    places = np.zeros(entries.shape, np.int32)
    group = np.cumsum(falling[:, 1:] != falling[:, :-1], axis=1)
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
