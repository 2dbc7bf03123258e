"""Metrics of timestamp tasks from counts that add up over clips.

Definitions: sed_eval's event-based (optimal matching) and segment-based metrics, overall (micro)
average, as hear-eval-kit uses them. Matching is exact: the candidate pairs of all clips and labels
form one sparse bipartite graph, whose maximum matching scipy finds in one call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from mambabench.benchmarks.task import Clip

__all__ = [
    "Events",
    "events_of_clips",
    "frame_targets",
    "label_counts",
    "match_counts",
    "match_parts",
    "segment_counts",
    "segment_parts",
]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Events:
    """The events of `n_clips` clips as parallel arrays, in any order."""

    n_clips: int
    clip: Int  # [n_events], index of the clip
    label: Int  # [n_events], index in the vocabulary
    start_ms: Float  # [n_events]
    end_ms: Float  # [n_events]


def events_of_clips(clips: Sequence[Clip], labels: Sequence[str]) -> Events:
    """Return the reference events of `clips`, labels as indices into the vocabulary `labels`."""
    index = {label: i for i, label in enumerate(labels)}
    rows = [
        (i, index[event.label], event.start_ms, event.end_ms)
        for i, clip in enumerate(clips)
        for event in clip.events
    ]
    clip, label, start, end = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Events(
        len(clips),
        np.array(clip, dtype=np.int64),
        np.array(label, dtype=np.int64),
        np.array(start, dtype=np.float64),
        np.array(end, dtype=np.float64),
    )


def frame_targets(
    reference: Events, n_labels: int, timestamps_ms: npt.NDArray[np.floating], offsets: Int
) -> npt.NDArray[np.uint8]:
    """Return which labels sound at each frame, uint8 [n_rows, n_labels].

    Clip i owns the rows offsets[i]:offsets[i + 1]. An event sounds at time t if start <= t < end +
    0.0001 ms (hear-eval-kit's interval tree: the end included).
    """
    target = np.zeros((int(offsets[-1]), n_labels), dtype=np.uint8)
    order = np.argsort(reference.clip, kind="stable")
    bounds = np.searchsorted(reference.clip[order], np.arange(reference.n_clips + 1))
    for i in range(reference.n_clips):
        mine = order[bounds[i] : bounds[i + 1]]
        times = np.asarray(timestamps_ms[offsets[i] : offsets[i + 1]], dtype=np.float64)
        first = np.searchsorted(times, reference.start_ms[mine])
        last = np.searchsorted(times, reference.end_ms[mine] + 1e-4)
        for label, a, b in zip(reference.label[mine], first, last, strict=True):
            target[offsets[i] + a : offsets[i] + b, label] = 1
    return target


def match_counts(
    reference: Events, predicted: Events, collar_s: float, offset: bool = False
) -> Float:
    """Return [matched, reference, predicted] events of every clip, float64 [n_clips, 3].

    A pair may match if the labels agree, the onsets differ by at most `collar_s` and, with
    `offset`, the ends by at most max(collar_s, 0.2 * duration of the reference event). The number
    matched is that of a maximum matching (sed_eval, event_matching_type="optimal").
    """
    rows, columns = _candidates(reference, predicted, collar_s)
    start_r, start_p = reference.start_ms / 1000.0, predicted.start_ms / 1000.0
    hit = np.abs(start_r[rows] - start_p[columns]) <= collar_s
    if offset:
        end_r, end_p = reference.end_ms / 1000.0, predicted.end_ms / 1000.0
        tolerance = np.maximum(collar_s, 0.2 * (end_r - start_r))
        hit &= np.abs(end_r[rows] - end_p[columns]) <= tolerance[rows]
    matched = _maximum_matching(rows[hit], columns[hit], len(start_r), len(start_p))
    return np.stack(
        [
            np.bincount(events, minlength=reference.n_clips)
            for events in (reference.clip[matched], reference.clip, predicted.clip)
        ],
        axis=1,
    ).astype(np.float64)


def label_counts(
    of_clips: Callable[[Events, Events], Float], reference: Events, predicted: Events, n_labels: int
) -> Float:
    """Return of every label the counts that `of_clips` gives of clips, [n_labels, k].

    Each label's events of a clip are counted as a clip of their own, which is exact where events of
    two labels do not touch each other, as in `match_counts`.
    """

    def apart(events: Events) -> Events:
        own = events.clip * n_labels + events.label
        return replace(events, n_clips=events.n_clips * n_labels, clip=own)

    counts = of_clips(apart(reference), apart(predicted))
    return np.asarray(counts.reshape(reference.n_clips, n_labels, -1).sum(axis=0))


def _candidates(reference: Events, predicted: Events, collar_s: float) -> tuple[Int, Int]:
    """Return index pairs of equal clip and label whose onsets are at most the collar apart.

    A few pairs just beyond the collar may be among them (rounding); the caller decides exactly.
    """
    n_labels = 1 + max(reference.label.max(initial=0), predicted.label.max(initial=0))
    starts = np.concatenate([reference.start_ms, predicted.start_ms])
    window = 1000.0 * collar_s + 1e-3
    span = starts.max(initial=0.0) - starts.min(initial=0.0) + 3 * window
    groups = np.concatenate([e.clip * n_labels + e.label for e in (reference, predicted)])
    _, group = np.unique(groups, return_inverse=True)
    key = group * span + starts  # one axis on which groups are further apart than the window
    key_r, key_p = key[: len(reference.clip)], key[len(reference.clip) :]
    order = np.argsort(key_p, kind="stable")
    first = np.searchsorted(key_p[order], key_r - window)
    n_each = np.searchsorted(key_p[order], key_r + window, side="right") - first
    rows = np.repeat(np.arange(len(key_r)), n_each)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(n_each) - n_each, n_each)
    return rows, order[np.repeat(first, n_each) + within]


def _maximum_matching(rows: Int, columns: Int, n_rows: int, n_columns: int) -> Int:
    """Return the rows that a maximum matching of the given pairs covers."""
    if len(rows) == 0:
        return rows
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    graph = csr_matrix(
        (np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(n_rows, n_columns)
    )
    column_of_row = maximum_bipartite_matching(graph, perm_type="column")
    return np.flatnonzero(column_of_row >= 0)


def match_parts(counts: Float) -> dict[str, Float]:
    """Return f_measure, precision and recall of summed `match_counts`, each [...].

    Precision is NaN without predicted events, recall without reference events, and the F-measure
    where one of them is; it is 0 where both are 0 (sed_eval).
    """
    matched, n_reference, n_predicted = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(n_predicted > 0, matched / n_predicted, np.nan)
        recall = np.where(n_reference > 0, matched / n_reference, np.nan)
        f_measure = 2.0 * precision * recall / (precision + recall)
    f_measure = np.where((precision == 0) & (recall == 0), 0.0, f_measure)
    return {"f_measure": f_measure, "precision": precision, "recall": recall}


def segment_counts(reference: Events, predicted: Events, segment_s: float = 1.0) -> Float:
    """Return [substituted, deleted, inserted, reference, predicted, matched] of every clip.

    float64 [n_clips, 6], summed over the clip's segments. A label is active in the segments from
    floor(onset) to ceil(end) (sed_eval, SegmentBasedMetrics).
    """
    n_labels = 1 + max(reference.label.max(initial=0), predicted.label.max(initial=0))
    length = np.zeros(reference.n_clips, dtype=np.int64)
    for events in (reference, predicted):
        last = np.ceil(events.end_ms / 1000.0 / segment_s).astype(np.int64)
        np.maximum.at(length, events.clip, last)
    base = np.concatenate([[0], np.cumsum(length)])
    active_r, active_p = (
        _active_segments(events, base, int(n_labels), segment_s)
        for events in (reference, predicted)
    )
    n_r, n_p = active_r.sum(axis=1), active_p.sum(axis=1)
    matched = (active_r & active_p).sum(axis=1)
    substituted = np.minimum(n_r, n_p) - matched
    deleted, inserted = np.maximum(n_r - n_p, 0), np.maximum(n_p - n_r, 0)
    segments = np.stack([substituted, deleted, inserted, n_r, n_p, matched], axis=1)
    cumulated = np.concatenate([np.zeros((1, 6)), np.cumsum(segments, axis=0, dtype=np.float64)])
    result: Float = cumulated[base[1:]] - cumulated[base[:-1]]
    return result


def _active_segments(
    events: Events, base: Int, n_labels: int, segment_s: float
) -> npt.NDArray[np.bool_]:
    """Return which labels are active in the segments of all clips, [n_segments, n_labels]."""
    change = np.zeros((int(base[-1]) + 1, n_labels), dtype=np.int32)
    first = np.floor(events.start_ms / 1000.0 / segment_s).astype(np.int64)
    last = np.ceil(events.end_ms / 1000.0 / segment_s).astype(np.int64)
    np.add.at(change, (base[events.clip] + first, events.label), 1)
    np.add.at(change, (base[events.clip] + last, events.label), -1)
    result: npt.NDArray[np.bool_] = np.cumsum(change, axis=0)[:-1] > 0
    return result


def segment_parts(counts: Float) -> dict[str, Float]:
    """Return error_rate and the segment f_measure, precision and recall of summed counts.

    The error rate is (substituted + deleted + inserted) / reference; NaN without reference events.
    """
    columns = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    substituted, deleted, inserted, n_reference, n_predicted, matched = columns
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = (substituted + deleted + inserted) / n_reference
    error_rate = np.where(n_reference > 0, errors, np.nan)
    parts = match_parts(np.stack([matched, n_reference, n_predicted], axis=-1))
    return {"error_rate": error_rate, **parts}
