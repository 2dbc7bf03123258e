"""Average precision and AUC of both sides of an exchange in one pass down the sorted entries."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["merge", "sweep_both_sides"]

Array = npt.NDArray[Any]


def sweep_both_sides(order: Array, marks: Array, kept: Array) -> tuple[Array, Array]:
    """Return average precision and AUC of both sides, each [2, n_labels, n_blocks, lanes] float64.

    order [n_labels, 2 n] int32: entries of falling rank, the clip's index, plus n for the other
    encoder's entry; marks alike uint8 as in `ranking`; kept [n_blocks, n, lanes] uint8: 1 where a
    clip's predictions stay. The first side holds kept entries of the one encoder and changed ones
    of the other, the second side all others. NaN for a label without positives or negatives.
    """
    return _kernels()[0](order, marks, kept)


def merge(
    order: Array, key: Array, other_order: Array, other_key: Array, positive: Array
) -> tuple[Array, Array, Array]:
    """Return the entries of two encoders by falling key, their marks and their ranks in the pool.

    order int32: clips by falling key float64, positive bool, each [n_labels, n_clips]. Entries and
    marks are what `sweep_both_sides` takes; ranks int32 [n_labels, 2 n] are by clip (+ n for the
    other encoder's), the best 0, equal for equal keys.
    """
    return _kernels()[1](order, key, other_order, other_key, positive)


@cache
def _kernels() -> tuple[
    Callable[..., tuple[Array, Array]], Callable[..., tuple[Array, Array, Array]]
]:
    try:
        import numba
    except ImportError:
        return _both_sides_numpy, _merge_numpy
    compile_ = numba.njit(nogil=True, cache=True)
    return compile_(_both_sides), compile_(_merge)


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
    from mambabench.report.statistics.ranking import sorted_marks

    both = np.concatenate([key, other_key], axis=1)
    entries, marks = sorted_marks(np.concatenate([positive] * 2, axis=1).T, both.T)
    falling = np.take_along_axis(both, entries.astype(np.int64), axis=1)
    places = np.zeros(entries.shape, np.int32)
    group = np.cumsum(falling[:, 1:] != falling[:, :-1], axis=1)
    np.put_along_axis(places, entries[:, 1:].astype(np.int64), group.astype(np.int32), axis=1)
    return entries, marks, places


def _both_sides(order: Array, marks: Array, kept: Array) -> tuple[Array, Array]:
    """Count entries of the first side in bytes; the second side has what is left of all seen."""
    n_labels, n_entries = order.shape
    n_blocks, n_clips, lanes = kept.shape
    precision = np.empty((2, n_labels, n_blocks, lanes))
    area = np.empty((2, n_labels, n_blocks, lanes))
    for block in range(n_blocks):
        for label in range(n_labels):
            recent = np.zeros(lanes, np.uint8)  # entries since the last transfer to `total`
            total = np.zeros(lanes, np.int32)  # entries so far
            found = np.zeros(lanes, np.int32)  # positives up to the last marked group
            tied = np.zeros(lanes, np.int32)  # positives in this group
            start = np.zeros(lanes, np.int32)  # negatives above this group
            gained = np.zeros((2, lanes))
            passed = np.zeros((2, lanes))
            n_recent = all_found = all_tied = all_start = 0
            for position in range(n_entries):
                mark = marks[label, position]
                if mark & 2 or n_recent == 255:
                    for lane in range(lanes):
                        total[lane] += recent[lane]
                        recent[lane] = 0
                    n_recent = 0
                    if mark & 2:
                        start[:] = total - found
                        all_start = position - all_found
                clip = order[label, position]
                other = np.uint8(0)
                if clip >= n_clips:
                    clip -= n_clips
                    other = np.uint8(1)
                row = kept[block, clip]
                for lane in range(lanes):
                    recent[lane] += row[lane] ^ other
                n_recent += 1
                if mark & 1:
                    all_tied += 1
                    for lane in range(lanes):
                        tied[lane] += row[lane] ^ other
                if mark & 4:
                    all_found += all_tied
                    for lane in range(lanes):
                        total[lane] += recent[lane]
                        recent[lane] = 0
                        found[lane] += tied[lane]
                        n, hits, new, above = total[lane], found[lane], tied[lane], start[lane]
                        gained[0, lane] += new * (hits / max(n, 1))
                        passed[0, lane] += new * (0.5 * (above + n - hits))
                        n = position + 1 - n
                        hits = all_found - hits
                        new = all_tied - new
                        above = all_start - above
                        gained[1, lane] += new * (hits / max(n, 1))
                        passed[1, lane] += new * (0.5 * (above + n - hits))
                        tied[lane] = 0
                    n_recent = all_tied = 0
            n_positive = float(all_found) / 2
            pairs = n_positive * (n_clips - n_positive)
            for side in range(2):
                for lane in range(lanes):
                    precision[side, label, block, lane] = (
                        gained[side, lane] / n_positive if n_positive else np.nan
                    )
                    area[side, label, block, lane] = (
                        1.0 - passed[side, lane] / pairs if pairs else np.nan
                    )
    return precision, area


def _both_sides_numpy(order: Array, marks: Array, kept: Array) -> tuple[Array, Array]:
    """Do what `_both_sides` does as two weighted sweeps, where numba cannot be imported."""
    from mambabench.report.statistics.ranking import sweep_numpy

    changed = 1 - kept
    sides = [
        sweep_numpy(order, marks, np.concatenate(pair, axis=1))
        for pair in ((kept, changed), (changed, kept))
    ]
    return np.stack([side[0] for side in sides]), np.stack([side[1] for side in sides])
