"""Average precision and AUC of both sides of an exchange, from what an exchange can change.

Two encoders' predictions of one fold are ranked together, label by label. The score of a side
depends on how many of its entries stand above each positive one, so the ranks are cut into segments
at the positive entries (and the entries tied with them). A negative clip whose two entries lie in
the same segment gives one entry to either side whatever changes: it is counted once for all
exchanges. What lies below the last positive entry counts nowhere. All counts are integers, so
nothing is rounded that was not before.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["LANES", "Segments", "has_numba", "segments", "sweep_segments"]

Array = npt.NDArray[Any]
LANES = 256  # exchanges that are counted side by side


class Segments(NamedTuple):
    """The entries of two encoders that an exchange moves, per label.

    Segment 2 g lies above group g, the g-th highest key that a positive entry has; segment 2 g + 1
    is that group.
    """

    entries: Array  # [n_labels, 2 n] int32: the clip, + n for the other encoder, by segment
    positive: Array  # alike uint8: 1 for a positive entry
    ends: Array  # [n_labels, most segments] int32: where a segment's entries end
    fixed: Array  # alike int32: entries of each side in this segment and above that never move
    above: Array  # alike int32: entries of both encoders in this segment and above
    n_groups: Array  # [n_labels] int32
    n_positive: Array  # [n_labels] float64: clips


def segments(
    order: Array, key: Array, other_order: Array, other_key: Array, positive: Array
) -> Segments:
    """Cut two encoders' ranks into segments.

    order int32: clips by falling key float64, positive bool, each [n_labels, n_clips].
    """
    n_positive = positive.sum(axis=1)
    most = max(2, 4 * int(n_positive.max(initial=0)))
    found = _kernels()[0](order, key, other_order, other_key, positive, most)
    entries, is_positive, ends, fixed, above, n_groups = found
    own = n_positive.astype(np.float64)
    return Segments(entries, is_positive, ends, fixed, above, n_groups, own)


def sweep_segments(found: Segments, kept: Array, precision: bool, *, mean: bool = False) -> Array:
    """Return the average precision, or else the AUC, of both sides: [2, n_labels, n] float64.

    kept [n_blocks, n_clips, LANES] uint8: 1 where a clip's predictions stay, n = n_blocks * LANES.
    The first side holds kept entries of the one encoder and changed ones of the other, the second
    side all others. NaN for a label without positives or, for the AUC, without negatives; with
    `mean` the mean over all other labels, [2, n].
    """
    scores = _kernels()[1](*found, kept, precision, not mean)
    if not mean:
        return np.asarray(scores.reshape(2, len(found.entries), -1))
    known = found.n_positive > 0
    if not precision:
        known &= found.n_positive < kept.shape[1]
    n_known = np.count_nonzero(known)
    total = scores.reshape(2, -1)
    return np.asarray(total / n_known if n_known else np.full_like(total, np.nan))


@cache
def has_numba() -> bool:
    """Whether these kernels can be compiled."""
    return importlib.util.find_spec("numba") is not None


@cache
def _kernels() -> tuple[Callable[..., tuple[Array, ...]], Callable[..., Array]]:
    import numba

    compile_ = numba.njit(nogil=True, cache=True, error_model="numpy")
    return compile_(_segments), compile_(_sweep)


def _segments(
    order: Array, key: Array, other_order: Array, other_key: Array, positive: Array, most: int
) -> tuple[Array, ...]:
    n_labels, n = order.shape
    entries = np.empty((n_labels, 2 * n + 1), np.int32)  # one more is written to, and not counted
    is_positive = np.empty((n_labels, 2 * n + 1), np.uint8)
    ends = np.zeros((n_labels, most), np.int32)
    fixed = np.zeros((n_labels, most), np.int32)
    above = np.zeros((n_labels, most), np.int32)
    n_groups = np.zeros(n_labels, np.int32)
    place = np.empty((2, n), np.int32)  # of each encoder's entry of a clip: its segment
    bounds = np.empty((2, most + 1), np.int32)  # where each encoder's segments begin in its order
    limits = np.empty(most)  # the groups' keys, falling
    for label in range(n_labels):
        n_found = 0
        for clip in range(n):
            if positive[label, clip]:
                limits[n_found] = -key[label, clip]
                limits[n_found + 1] = -other_key[label, clip]
                n_found += 2
        limits[:n_found].sort()
        n_group = 0
        for i in range(n_found):
            value = -limits[i]
            if n_group == 0 or value != limits[n_group - 1]:
                limits[n_group] = value
                n_group += 1
        n_groups[label] = n_group
        for side in range(2):
            own_order = order[label] if side == 0 else other_order[label]
            own_key = key[label] if side == 0 else other_key[label]
            i = 0
            for group in range(n_group):
                limit = limits[group]
                bounds[side, 2 * group] = i
                while i < n and own_key[own_order[i]] > limit:
                    place[side, own_order[i]] = 2 * group
                    i += 1
                bounds[side, 2 * group + 1] = i
                while i < n and own_key[own_order[i]] == limit:
                    place[side, own_order[i]] = 2 * group + 1
                    i += 1
            bounds[side, 2 * n_group] = i
            while i < n:
                place[side, own_order[i]] = 2 * n_group
                i += 1
        n_moving = n_fixed = 0
        for segment in range(2 * n_group):
            for i in range(bounds[0, segment], bounds[0, segment + 1]):
                clip = order[label, i]
                hit = positive[label, clip]
                moves = (place[1, clip] != segment) | hit
                entries[label, n_moving] = clip
                is_positive[label, n_moving] = hit
                n_moving += moves
                n_fixed += 1 - moves
            for i in range(bounds[1, segment], bounds[1, segment + 1]):
                clip = other_order[label, i]
                hit = positive[label, clip]
                entries[label, n_moving] = clip + n
                is_positive[label, n_moving] = hit
                n_moving += (place[0, clip] != segment) | hit
            ends[label, segment] = n_moving
            fixed[label, segment] = n_fixed
            above[label, segment] = bounds[0, segment + 1] + bounds[1, segment + 1]
    return entries, is_positive, ends, fixed, above, n_groups


def _sweep(
    entries: Array,
    is_positive: Array,
    ends: Array,
    fixed: Array,
    above: Array,
    n_groups: Array,
    positives: Array,
    kept: Array,
    precision: bool,
    whole: bool,
) -> Array:
    """Count moved entries of the first side in bytes; the second side has what is left of all."""
    n_labels = len(entries)
    n_blocks, n_clips, _ = kept.shape
    scores = np.zeros((2, n_labels if whole else 1, n_blocks, LANES))
    recent = np.zeros(LANES, np.uint8)  # entries since the last transfer to `total`
    total = np.zeros(LANES, np.int32)  # moved entries of the first side so far
    found = np.zeros(LANES, np.int32)  # positives of the first side so far
    tied = np.zeros(LANES, np.int32)  # positives of the first side in this group
    begin = np.zeros(LANES, np.int32)  # negatives of the first side above this group
    passed = np.zeros((2, LANES), np.int32)  # negatives above the positives of each side
    first = np.zeros(LANES)
    second = np.zeros(LANES)
    for block in range(n_blocks):
        for label in range(n_labels):
            n_group = n_groups[label]
            n_positive = positives[label]
            pairs = n_positive * (n_clips - n_positive)
            if n_positive == 0 or (not precision and pairs == 0):
                if whole:
                    scores[:, label, block, :] = np.nan
                continue
            small = not precision and pairs < 2**30  # integers hold the count of pairs
            for group in range(n_group):  # and nothing is tied with a positive entry
                small &= above[label, 2 * group + 1] == above[label, 2 * group] + 1
            total[:] = 0
            found[:] = 0
            first[:] = 0.0
            second[:] = 0.0
            all_found = 0
            position = 0
            for group in range(n_group):
                all_begin = all_tied = 0
                end = ends[label, 2 * group]
                n_recent = 0
                while position < end:
                    clip = entries[label, position]
                    other = np.uint8(clip >= n_clips)
                    row = kept[block, clip - n_clips if other else clip]
                    for lane in range(LANES):
                        recent[lane] += row[lane] ^ other
                    n_recent += 1
                    if n_recent == 255:
                        for lane in range(LANES):
                            total[lane] += recent[lane]
                            recent[lane] = 0
                        n_recent = 0
                    position += 1
                end = ends[label, 2 * group + 1]
                still = fixed[label, 2 * group + 1]
                all_above = above[label, 2 * group + 1]
                if precision and end == position + 1:  # one positive entry: it is on one side
                    clip = entries[label, position]
                    other = np.uint8(clip >= n_clips)
                    row = kept[block, clip - n_clips if other else clip]
                    position += 1
                    all_found += 1
                    for lane in range(LANES):
                        new = np.int32(row[lane] ^ other)
                        n = total[lane] + np.int32(recent[lane]) + new
                        recent[lane] = 0
                        total[lane] = n
                        hits = found[lane] + new
                        found[lane] = hits
                        n += still
                        hits = hits if new else np.int32(all_found - hits)
                        n = n if new else np.int32(all_above - n)
                        share = float(hits) / float(n)
                        first[lane] += share if new else 0.0
                        second[lane] += 0.0 if new else share
                    continue
                if small:
                    clip = entries[label, position]
                    other = np.uint8(clip >= n_clips)
                    row = kept[block, clip - n_clips if other else clip]
                    position += 1
                    all_negative = all_above - all_found - 1
                    all_found += 1
                    for lane in range(LANES):
                        new = np.int32(row[lane] ^ other)
                        negative = total[lane] + np.int32(recent[lane])
                        recent[lane] = 0
                        total[lane] = negative
                        negative += still
                        passed[0, lane] += negative if new else np.int32(0)
                        passed[1, lane] += np.int32(0) if new else np.int32(all_negative - negative)
                    continue
                for lane in range(LANES):
                    total[lane] += recent[lane]
                    recent[lane] = 0
                    tied[lane] = 0
                    begin[lane] = total[lane] + fixed[label, 2 * group] - found[lane]
                all_begin = above[label, 2 * group] - all_found
                n_recent = 0
                while position < end:
                    clip = entries[label, position]
                    other = np.uint8(clip >= n_clips)
                    row = kept[block, clip - n_clips if other else clip]
                    for lane in range(LANES):
                        total[lane] += row[lane] ^ other
                    if is_positive[label, position]:
                        all_tied += 1
                        for lane in range(LANES):
                            tied[lane] += row[lane] ^ other
                    position += 1
                all_found += all_tied
                if precision:
                    for lane in range(LANES):
                        new = tied[lane]
                        found[lane] += new
                        n = total[lane] + still
                        first[lane] += new * (float(found[lane]) / float(max(n, 1)))
                        new = all_tied - new
                        hits = all_found - found[lane]
                        second[lane] += new * (float(hits) / float(max(all_above - n, 1)))
                else:
                    for lane in range(LANES):
                        new = tied[lane]
                        found[lane] += new
                        n = total[lane] + still
                        first[lane] += new * (0.5 * (begin[lane] + n - found[lane]))
                        new = all_tied - new
                        n = all_above - n
                        hits = all_found - found[lane]
                        second[lane] += new * (0.5 * (all_begin - begin[lane] + n - hits))
            if small:
                for lane in range(LANES):
                    first[lane] = passed[0, lane]
                    second[lane] = passed[1, lane]
                    passed[0, lane] = passed[1, lane] = 0
            row_of = label if whole else 0
            for lane in range(LANES):
                if precision:
                    scores[0, row_of, block, lane] += first[lane] / n_positive
                    scores[1, row_of, block, lane] += second[lane] / n_positive
                else:
                    scores[0, row_of, block, lane] += 1.0 - first[lane] / pairs
                    scores[1, row_of, block, lane] += 1.0 - second[lane] / pairs
    return scores
