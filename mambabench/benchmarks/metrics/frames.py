"""From frame-wise probabilities to events: median filter, threshold, grouping, minimum duration."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.metrics.events import Events

__all__ = ["THRESHOLD", "events_from_probabilities", "median_filter_active"]

THRESHOLD = 0.5  # strict: a label sounds where its filtered probability is above


def events_from_probabilities(
    probability: npt.NDArray[np.floating[Any]],
    timestamps_ms: npt.NDArray[np.floating[Any]],
    offsets: npt.NDArray[np.int64],
    *,
    median_filter_ms: float,
    min_duration_ms: float,
    threshold: float = THRESHOLD,
) -> Events:
    """Return the events of frame-wise probabilities [n_rows, n_labels], as hear-eval-kit does.

    Clip i owns the rows offsets[i]:offsets[i + 1], its times ascending. Each label's probability is
    median-filtered over round(median_filter_ms / mean hop) frames (0: not at all; half to even),
    compared with the threshold, and consecutive frames become one event from the first frame's time
    to the last frame's (no hop is added). Events with last - first < `min_duration_ms` are dropped.
    Sorted by clip, label and start.
    """
    found: list[tuple[npt.NDArray[Any], ...]] = []
    for i in range(len(offsets) - 1):
        rows = slice(int(offsets[i]), int(offsets[i + 1]))
        times = np.asarray(timestamps_ms[rows], dtype=np.float64)
        active = np.asarray(probability[rows]) > threshold
        if len(times) > 1 and median_filter_ms > 0:
            hop = float(np.mean(np.diff(times)))
            active = median_filter_active(active, round(median_filter_ms / hop))
        label, first, last = _runs(active)
        start, end = times[first], times[last]
        keep = end - start >= min_duration_ms
        found.append((np.full(int(keep.sum()), i), label[keep], start[keep], end[keep]))
    found.append((np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0)))
    clips, labels, starts, ends = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Events(len(offsets) - 1, clips.astype(np.int64), labels.astype(np.int64), starts, ends)


def median_filter_active(active: npt.NDArray[np.bool_], width: int) -> npt.NDArray[np.bool_]:
    """Return where the running median over time of what `active` [n, k] compares is above too.

    The median of a window is above the threshold exactly where enough of its values are, so that
    counting replaces sorting. Window, rank of even widths and reflection at the borders are those
    of scipy.ndimage.median_filter with size (width, 1); width 0 changes nothing.
    """
    if width <= 1 or len(active) == 0:
        return active
    n = len(active)
    position = np.arange(-(width // 2), n + width - width // 2 - 1)
    position = position % (2 * n)
    position = np.where(position < n, position, 2 * n - 1 - position)  # ... b a | a b ... z | z ...
    total = np.zeros((n + width, active.shape[1]), dtype=np.int32)
    np.cumsum(active[position], axis=0, dtype=np.int32, out=total[1:])
    above: npt.NDArray[np.bool_] = total[width:] - total[:-width] >= width - width // 2
    return above


def _runs(
    active: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return label, first and last frame of every run of active frames of `active` [n, k]."""
    padded = np.zeros((active.shape[1], active.shape[0] + 2), dtype=np.int8)
    padded[:, 1:-1] = active.T
    change = np.diff(padded, axis=1)
    label, first = np.nonzero(change == 1)
    _, after = np.nonzero(change == -1)
    return label, first, after - 1
