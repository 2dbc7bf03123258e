"""Maximum term-weighted value (MTWV) of spoken queries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.metrics.metric import Metric, Untested

__all__ = ["METRIC", "TERM_BETA", "maximum_term_weighted_value"]

# QUESST 2014's cost: false alarms against misses at its prior
TERM_BETA = (1 / 100) * (1 / 0.0008 - 1)


def maximum_term_weighted_value(
    relevant: npt.NDArray[np.bool_],
    scores: npt.NDArray[np.float64],
    *,
    beta: float,
) -> float:
    """Return MTWV: the best 1 - mean over queries of (P_miss + beta P_false_alarm) over thresholds.

    `relevant`, `scores` are [n_queries, n_documents]; queries without a relevant document are left
    out, as in the official scorer. One global threshold. NaN where no query has one.
    """
    used = relevant.any(axis=1)
    relevant, scores = relevant[used], scores[used]
    if not len(relevant):
        return float("nan")
    n_true = relevant.sum(axis=1, keepdims=True)
    n_false = np.maximum(relevant.shape[1] - n_true, 1)
    gain = np.where(relevant, 1.0 / n_true, -beta / n_false).ravel() / len(relevant)
    order = np.argsort(-scores.ravel(), kind="stable")
    values = scores.ravel()[order]
    last = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)
    return float(max(0.0, np.cumsum(gain[order])[last].max()))


def _of_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> float | None:
    if "query_score" not in arrays:
        return None
    relevant, scores = arrays["query_relevant"], arrays["query_score"]
    return maximum_term_weighted_value(relevant, scores, beta=TERM_BETA)


METRIC = Metric(
    "mtwv",
    "maximum term-weighted value",
    "queries",
    statistic=Untested(
        "its threshold is shared by all queries and documents stand in every query, so that "
        "queries are not independent"
    ),
    of_arrays=_of_arrays,
    chance=lambda target, n_labels: 0.0,
)
