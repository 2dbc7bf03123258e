"""The interval over seeds as a report prints it: none below five seeds, none beyond the metric."""

from __future__ import annotations

from collections.abc import Sequence

from mambabench.benchmarks.metrics import metric_of
from mambabench.report.statistics.intervals import Interval, t_interval

__all__ = ["FEWEST_SEEDS", "metric_range", "no_seed_interval", "seed_interval"]

FEWEST_SEEDS = 5  # below, Student's factor is 3.2 to 12.7 and the interval says next to nothing


def metric_range(metric: str) -> tuple[float, float]:
    """Return the lowest and the highest value that a metric can take."""
    known = metric_of(metric)
    return known.lowest, known.highest


def seed_interval(metric: str, scores: Sequence[float]) -> Interval | None:
    """Return Student's 95 % interval over the seeds, cut to the metric's range.

    None below `FEWEST_SEEDS` seeds.
    """
    interval = t_interval(scores) if len(scores) >= FEWEST_SEEDS else None
    if interval is None:
        return None
    low, high = metric_range(metric)
    return Interval(max(interval.low, low), min(interval.high, high))


def no_seed_interval(n_seeds: int) -> str:
    """Say why so few seeds have no interval."""
    if n_seeds == 1:
        return "one seed: no spread over seeds"
    return f"{n_seeds} seeds: no interval over seeds below {FEWEST_SEEDS}"
