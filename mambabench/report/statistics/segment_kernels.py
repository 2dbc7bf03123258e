"""Average precision and AUC of both sides of an exchange, from the ranks of two encoders.

Two encoders' predictions of one fold are ranked each for itself, once for all pairs. The score of a
side depends on how many of its entries stand above each positive one, so that a pair only needs to
know where either order is cut by the positive entries of both (and by the entries tied with them):
segments. A side of an exchange has of every clip the one entry or the other's; how many of a
segment it has is counted by adding what stays of the one encoder and taking off what stays of the
other. All counts are integers, so nothing is rounded that was not before.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mambabench.report.statistics.scoring import Seed

__all__ = [
    "Segments",
    "has_numba",
    "positive_places",
    "precision_slopes",
    "segments",
    "sweep_segments",
]

Array = npt.NDArray[Any]


class Segments(NamedTuple):
    """Two encoders' orders, and where the positive entries of both cut them, label by label.

    Segment 2 g lies above group g, the g-th highest key that a positive entry has; segment 2 g + 1
    is that group. Those of a label stand from `starts` on.
    """

    order: Array  # [n_labels, n_clips] int32: clips by falling key
    other_order: Array  # alike, the other encoder's
    positive: Array  # [n_labels, n_clips] bool, by clip
    ends: Array  # [n_segments, 2] int32: where a segment ends in either order
    starts: Array  # [n_labels] int64
    n_groups: Array  # [n_labels] int64
    n_positive: Array  # [n_labels] int64: clips


def segments(one: Seed, other: Seed) -> Segments:
    """Cut two encoders' ranks, as `swaps.prepared` has them, into segments.

    Where their targets are not the same, those of the one count. ValueError for other shapes.
    """
    positive, other_hits = one["positive"], other["hits"]
    if other["positive"].shape != positive.shape:
        raise ValueError(f"{other['positive'].shape} and {positive.shape} labels and clips")
    if not np.array_equal(other["positive"], positive):
        other_hits = positive_places(positive, other["order"])
    n_positive = positive.sum(axis=1)
    starts = np.cumsum(4 * n_positive) - 4 * n_positive  # so many segments at most
    ends, n_groups = _kernels()[0](
        *(one["falling"], one["hits"], other["falling"], other_hits, n_positive, starts)
    )
    return Segments(*(one["order"], other["order"], positive, ends, starts, n_groups, n_positive))


def positive_places(positive: Array, order: Array) -> Array:
    """Return where in an order of clips the positive ones are: int32 [n_labels, most of a label].

    Places of a label that has fewer are filled with others.
    """
    places = np.argsort(~np.take_along_axis(positive, order, axis=1), axis=1, kind="stable")
    return places[:, : positive.sum(axis=1).max(initial=0)].astype(np.int32)


def sweep_segments(found: Segments, kept: Array, precision: bool, *, mean: bool = False) -> Array:
    """Return the average precision, or else the AUC, of both sides: [2, n_labels, n] float64.

    kept [n_blocks, n_clips, lanes] uint8: 1 where a clip's predictions stay, n = n_blocks * lanes.
    The first side holds kept entries of the one encoder and changed ones of the other, the second
    side all others. NaN for a label without positives or, for the AUC, without negatives; with
    `mean` the mean over all other labels, [2, n].
    """
    scores = _kernels()[1](*found, kept, precision, not mean)
    if not mean:
        return np.asarray(scores.reshape(2, len(found.order), -1))
    known = found.n_positive > 0
    if not precision:
        known &= found.n_positive < kept.shape[1]
    n_known = np.count_nonzero(known)
    total = scores.reshape(2, -1)
    return np.asarray(total / n_known if n_known else np.full_like(total, np.nan))


def precision_slopes(found: Segments) -> Array:
    """Return what a clip adds to the difference of two sides' mean average precision: [n_clips].

    To first order: its entries count with the derivative of their label's score by their weight.
    """
    _, _, summands, slopes = _kernels()
    own = found[:-1]
    average = summands(*own).sum(axis=1) / np.maximum(2 * found.n_positive, 1)
    return np.asarray(slopes(*own, average) / len(found.order))


@cache
def has_numba() -> bool:
    """Whether these kernels can be compiled."""
    return importlib.util.find_spec("numba") is not None


@cache
def _kernels() -> tuple[Callable[..., Any], ...]:
    import numba

    compile_ = numba.njit(nogil=True, cache=True, error_model="numpy")
    return compile_(_segments), compile_(_sweep), compile_(_summands), compile_(_slopes)


def _segments(
    falling: Array,
    hits: Array,
    other_falling: Array,
    other_hits: Array,
    n_positive: Array,
    starts: Array,
) -> tuple[Array, Array]:
    n_labels, n = falling.shape
    ends = np.zeros((4 * n_positive.sum(), 2), np.int32)
    n_groups = np.zeros(n_labels, np.int64)
    place = np.zeros(2, np.int64)  # in either order: where the next segment begins
    passed = np.zeros(2, np.int64)  # positive entries above it
    for label in range(n_labels):
        place[:] = 0
        passed[:] = 0
        segment = starts[label]
        n_hits = n_positive[label]
        while passed[0] < n_hits or passed[1] < n_hits:
            limit = -np.inf  # the highest key of a positive entry that is left
            if passed[0] < n_hits:
                limit = falling[label, hits[label, passed[0]]]
            if passed[1] < n_hits:
                limit = max(limit, other_falling[label, other_hits[label, passed[1]]])
            for side in range(2):
                key = falling[label] if side == 0 else other_falling[label]
                own_hits = hits[label] if side == 0 else other_hits[label]
                begin = place[side]
                end = own_hits[passed[side]] if passed[side] < n_hits else n
                while begin < end:  # the first place that is not above the limit
                    middle = (begin + end) // 2
                    if key[middle] > limit:
                        begin = middle + 1
                    else:
                        end = middle
                ends[segment, side] = begin
                while begin < n and key[begin] == limit:
                    begin += 1
                ends[segment + 1, side] = begin
                place[side] = begin
                while passed[side] < n_hits and own_hits[passed[side]] < begin:
                    passed[side] += 1
            segment += 2
        n_groups[label] = (segment - starts[label]) // 2
    return ends, n_groups


def _sweep(
    order: Array,
    other_order: Array,
    positive: Array,
    ends: Array,
    starts: Array,
    n_groups: Array,
    n_positive: Array,
    kept: Array,
    precision: bool,
    whole: bool,
) -> Array:
    """Count entries of the first side; the second side has what is left of all.

    Of the segments passed, the first side has the kept entries of the one encoder and the changed
    ones of the other: as many as the other has there, plus kept ones of the one, minus kept ones of
    the other. That difference is added up in bytes, which hold 127 entries.
    """
    n_labels = len(order)
    n_blocks, n_clips, lanes = kept.shape
    scores = np.zeros((2, n_labels if whole else 1, n_blocks, lanes))
    recent = np.zeros(lanes, np.uint8)  # the difference since the last transfer to `total`
    total = np.zeros(lanes, np.int32)  # the difference before that
    found = np.zeros(lanes, np.int32)  # positives of the first side so far
    tied = np.zeros(lanes, np.int32)  # positives of the first side in this group
    begin = np.zeros(lanes, np.int32)  # negatives of the first side above this group
    passed = np.zeros((2, lanes), np.int32)  # negatives above positives of each side, lately
    first = np.zeros(lanes)  # of a side: precisions, or negatives above positives, added up
    second = np.zeros(lanes)
    for block in range(n_blocks):
        for label in range(n_labels):
            pairs = n_positive[label] * (n_clips - n_positive[label])
            if n_positive[label] == 0 or (not precision and pairs == 0):
                if whole:
                    scores[:, label, block, :] = np.nan
                continue
            recent[:] = 0
            total[:] = 0
            found[:] = 0
            first[:] = 0.0
            second[:] = 0.0
            n_recent = n_passed = all_found = i = j = 0
            for group in range(n_groups[label]):
                segment = starts[label] + 2 * group
                for side in range(2):
                    own = order[label] if side == 0 else other_order[label]
                    place = i if side == 0 else j
                    end = ends[segment, side]
                    change = np.uint8(255 * side)  # (x ^ 255) + 1 is -x
                    one = np.uint8(side)
                    while place < end:
                        stop = min(end, place + 127 - n_recent)
                        n_recent += stop - place
                        while place + 4 <= stop:  # fewer turns of `recent` through the cache
                            a = kept[block, own[place]]
                            b = kept[block, own[place + 1]]
                            c = kept[block, own[place + 2]]
                            d = kept[block, own[place + 3]]
                            for lane in range(lanes):
                                four = np.uint8(a[lane] + b[lane] + c[lane] + d[lane])
                                recent[lane] += (four ^ change) + one
                            place += 4
                        while place < stop:
                            a = kept[block, own[place]]
                            for lane in range(lanes):
                                recent[lane] += (a[lane] ^ change) + one
                            place += 1
                        if n_recent == 127:
                            for lane in range(lanes):
                                total[lane] += np.int8(recent[lane])
                                recent[lane] = 0
                            n_recent = 0
                i, j = ends[segment]
                end, other_end = ends[segment + 1]
                all_above = i + j
                if end + other_end == all_above + 1:  # one positive entry: it is on one side
                    other = np.uint8(other_end - j)
                    clip = other_order[label, j] if other else order[label, i]
                    row = kept[block, clip]
                    others = np.int32(j)  # 32 bits: the compiler's default of 64 halves the speed
                    above = np.int32(all_above + 1)  # the entry with them
                    hits_above = np.int32(all_found + 1)
                    if precision:
                        for lane in range(lanes):
                            new = np.int32(row[lane] ^ other)
                            n = np.int32(total[lane] + np.int32(np.int8(recent[lane])))
                            n = np.int32(n + others)
                            hits = found[lane]
                            found[lane] = hits + new
                            hits = np.int32(hits + 1) if new else np.int32(hits_above - hits)
                            n = np.int32(n + 1) if new else np.int32(above - n)
                            share = float(hits) / float(n)
                            first[lane] += share if new else 0.0
                            second[lane] += 0.0 if new else share
                    else:
                        all_negative = np.int32(above - hits_above)
                        for lane in range(lanes):
                            new = np.int32(row[lane] ^ other)
                            n = np.int32(total[lane] + np.int32(np.int8(recent[lane])))
                            n = np.int32(np.int32(n + others) - found[lane])
                            found[lane] += new
                            passed[0, lane] += n if new else np.int32(0)
                            passed[1, lane] += np.int32(0) if new else np.int32(all_negative - n)
                        n_passed += all_above
                        if n_passed > 2**30:
                            for lane in range(lanes):
                                first[lane] += passed[0, lane]
                                second[lane] += passed[1, lane]
                                passed[:, lane] = 0
                            n_passed = 0
                    i, j = end, other_end
                    all_found += 1
                    if n_recent == 127:
                        for lane in range(lanes):
                            total[lane] += np.int8(recent[lane])
                            recent[lane] = 0
                        n_recent = 0
                    n_recent += 1
                    change = np.uint8(255 * other)
                    for lane in range(lanes):
                        recent[lane] += (row[lane] ^ change) + other
                    continue
                for lane in range(lanes):
                    total[lane] += np.int8(recent[lane])
                    recent[lane] = 0
                    tied[lane] = 0
                    begin[lane] = total[lane] + j - found[lane]
                n_recent = all_tied = 0
                all_begin = all_above - all_found
                for side in range(2):
                    for place in range(i if side == 0 else j, end if side == 0 else other_end):
                        clip = order[label, place] if side == 0 else other_order[label, place]
                        row = kept[block, clip]
                        sign = 1 - 2 * side
                        for lane in range(lanes):
                            total[lane] += sign * row[lane]
                        if positive[label, clip]:
                            all_tied += 1
                            for lane in range(lanes):
                                tied[lane] += row[lane] ^ side
                i, j = end, other_end
                all_above = i + j
                all_found += all_tied
                if precision:
                    for lane in range(lanes):
                        new = tied[lane]
                        found[lane] += new
                        n = total[lane] + j
                        first[lane] += new * (float(found[lane]) / float(max(n, 1)))
                        new = all_tied - new
                        hits = all_found - found[lane]
                        second[lane] += new * (float(hits) / float(max(all_above - n, 1)))
                else:
                    for lane in range(lanes):
                        new = tied[lane]
                        found[lane] += new
                        n = total[lane] + j
                        first[lane] += new * (0.5 * (begin[lane] + n - found[lane]))
                        new = all_tied - new
                        n = all_above - n
                        hits = all_found - found[lane]
                        second[lane] += new * (0.5 * (all_begin - begin[lane] + n - hits))
            row_of = label if whole else 0
            for lane in range(lanes):
                if precision:
                    scores[0, row_of, block, lane] += first[lane] / n_positive[label]
                    scores[1, row_of, block, lane] += second[lane] / n_positive[label]
                else:
                    passes = first[lane] + passed[0, lane], second[lane] + passed[1, lane]
                    passed[:, lane] = 0
                    scores[0, row_of, block, lane] += 1.0 - passes[0] / pairs
                    scores[1, row_of, block, lane] += 1.0 - passes[1] / pairs
    return scores


def _summands(
    order: Array,
    other_order: Array,
    positive: Array,
    ends: Array,
    starts: Array,
    n_groups: Array,
) -> Array:
    """Return positive entries times precision, where their group begins: [n_labels, 2 n]."""
    n_labels, n = order.shape
    gained = np.zeros((n_labels, 2 * n))
    for label in range(n_labels):
        hits = 0
        for group in range(n_groups[label]):
            begin, other_begin = ends[starts[label] + 2 * group]
            end, other_end = ends[starts[label] + 2 * group + 1]
            found = 0
            for place in range(begin, end):
                found += positive[label, order[label, place]]
            for place in range(other_begin, other_end):
                found += positive[label, other_order[label, place]]
            hits += found
            share = float(hits) / float(end + other_end)
            gained[label, begin + other_begin] = found * share
    return gained


def _slopes(
    order: Array,
    other_order: Array,
    positive: Array,
    ends: Array,
    starts: Array,
    n_groups: Array,
    average: Array,
) -> Array:
    """Return the slopes of every clip, summed over the labels, [n] float64."""
    n_labels, n = order.shape
    total = np.zeros(n)
    values = np.zeros((2, n))  # derivatives by the weight of either encoder's entry of a clip
    for label in range(n_labels):
        values[:] = 0.0  # below the last positive entry
        hits = 0
        for clip in range(n):
            hits += 2 * positive[label, clip]
        n_positive = max(hits, 1)
        gain = loss = 0.0
        for group in range(n_groups[label] - 1, -1, -1):
            segment = starts[label] + 2 * group
            found = 0
            for side in range(2):
                own = order[label] if side == 0 else other_order[label]
                for place in range(ends[segment, side], ends[segment + 1, side]):
                    found += positive[label, own[place]]
            above = ends[segment + 1, 0] + ends[segment + 1, 1]
            precision = float(hits) / float(above)
            share = float(found) / float(above)
            gain += share
            loss += share * precision
            hit = (precision - average[label] + gain - loss) / n_positive
            miss = -loss / n_positive
            for side in range(2):
                own = order[label] if side == 0 else other_order[label]
                begin = ends[segment - 1, side] if group else 0
                for place in range(begin, ends[segment + 1, side]):
                    clip = own[place]
                    values[side, clip] = hit if positive[label, clip] else miss
            hits -= found
        for clip in range(n):
            total[clip] += values[0, clip] - values[1, clip]
    return total
