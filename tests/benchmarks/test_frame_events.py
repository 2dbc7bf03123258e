"""The width of the median filter: the mean hop, half a frame rounded to even."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import median_filter

from mambabench.benchmarks.metrics.frames import events_from_probabilities


@pytest.mark.parametrize(
    ("median_ms", "width"), [(249.0, 2), (250.0, 2), (251.0, 3), (349.0, 3), (350.0, 4), (450.0, 4)]
)
def test_half_a_frame_of_the_median_filter_is_rounded_to_even(median_ms: float, width: int) -> None:
    probability = np.random.default_rng(3).random((400, 5))
    times = np.arange(400) * 100.0
    events = events_from_probabilities(
        probability,
        times,
        np.array([0, 400]),
        median_filter_ms=median_ms,
        min_duration_ms=0.0,
    )
    found = np.zeros((400, 5), bool)
    for label, start, end in zip(events.label, events.start_ms, events.end_ms, strict=True):
        found[int(start / 100) : int(end / 100) + 1, label] = True
    by_width = {w: median_filter(probability, size=(w, 1)) > 0.5 for w in range(1, 7)}
    assert [w for w, active in by_width.items() if (active == found).all()] == [width]
