"""F-measures of events by their onsets, and onsets with ends: sed_eval's event-based metrics."""

from __future__ import annotations

from functools import partial

from mambabench.benchmarks.metrics.events import match_counts, match_parts
from mambabench.benchmarks.metrics.metric import Counts, Metric

__all__ = ["ONSET_50MS", "ONSET_200MS", "ONSET_OFFSET_50MS", "onset_metric"]


def onset_metric(name: str, title: str, *, collar_s: float, offset: bool = False) -> Metric:
    """Return the F-measure of events matched within a collar, with `offset` by their ends too."""
    of_events = partial(match_counts, collar_s=collar_s, offset=offset)
    return Metric(
        name, title, "event", statistic=Counts(match_parts, "f_measure", of_events=of_events)
    )


ONSET_200MS = onset_metric("event_onset_200ms_fms", "onset F, 200 ms", collar_s=0.2)
ONSET_50MS = onset_metric("event_onset_50ms_fms", "onset F, 50 ms", collar_s=0.05)
ONSET_OFFSET_50MS = onset_metric(
    "event_onset_offset_50ms_20perc_fms", "onset and offset F, 50 ms", collar_s=0.05, offset=True
)
