"""Segment-based error rate of events in segments of one second, as sed_eval computes it."""

from __future__ import annotations

import math

from mambabench.benchmarks.metrics.events import segment_counts, segment_parts
from mambabench.benchmarks.metrics.metric import Counts, Metric

__all__ = ["METRIC"]

METRIC = Metric(
    "segment_1s_er",
    "segment error rate, 1 s",
    "event",
    higher_is_better=False,
    share=False,
    highest=math.inf,  # insertions carry it beyond 1
    statistic=Counts(segment_parts, "error_rate", of_events=segment_counts),
)
