"""The SUPERB score: every task's metric on a line from FBANK (0) to the 2021 best (1000).

Source: the SUPERB website's own score definition, with its reference points of 2021 (FBANK and
best-of-2021 per metric). A model may exceed 1000: the best is frozen. A missing task: no score.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["REFERENCE_POINTS", "TASK_METRICS", "points"]

# (task, metric) -> (FBANK, best of 2021), in per cent as the website prints them; QbE times 100
REFERENCE_POINTS: dict[tuple[str, str], tuple[float, float]] = {
    ("PR", "per"): (82.01, 3.53),
    ("KS", "acc"): (41.3826674, 96.66),
    ("IC", "acc"): (9.649354219, 98.76),
    ("SID", "acc"): (20.058174, 90.3),
    ("ER", "acc"): (48.23672168, 67.62),
    ("ASR", "wer"): (23.18, 3.62),
    ("QbE", "mtwv"): (0.58, 7.36),
    ("SF", "f1"): (69.64, 89.81),
    ("SF", "cer"): (52.94, 21.76),
    ("ASV", "eer"): (9.56, 5.11),
    ("SD", "der"): (10.05, 5.62),
}
TASK_METRICS: dict[str, tuple[str, ...]] = {
    task: tuple(metric for owner, metric in REFERENCE_POINTS if owner == task)
    for task, _ in REFERENCE_POINTS
}


def points(task: str, values: Mapping[str, float]) -> float | None:
    """Return the points of one task, the mean over its metrics; None where one is missing.

    `values` maps metric to value in per cent (QbE: MTWV times 100). FBANK has 0, the best of 2021
    has 1000.
    """
    found = []
    for metric in TASK_METRICS[task]:
        if metric not in values:
            return None
        low, high = REFERENCE_POINTS[task, metric]
        found.append(1000.0 * (values[metric] - low) / (high - low))
    return sum(found) / len(found)
