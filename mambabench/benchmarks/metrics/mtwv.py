"""Maximum term-weighted value (MTWV) of spoken queries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.metrics.metric import Drawn, Metric

__all__ = ["METRIC", "TERM_BETA", "maximum_term_weighted_value", "weighted_mtwv"]

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
_LANES = 64  # draws handled side by side
_BLOCK = 1024  # scores handled at once

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


def _of_arrays(arrays: Arrays) -> float | None:
    if "query_score" not in arrays:
        return None
    relevant, scores = arrays["query_relevant"], arrays["query_score"]
    return maximum_term_weighted_value(relevant, scores, beta=TERM_BETA)


def weighted_mtwv(arrays: Arrays, weights: Array, units: Array) -> Array:
    """Return the MTWV under weights of queries [n_queries, n] and of drawn documents, [n].

    Documents are drawn anew beside the queries, the same ones for every encoder. NaN where no query
    with a relevant document was drawn.
    """
    relevant, scores = arrays["query_relevant"].astype(bool), arrays["query_score"]
    n_documents, n = relevant.shape[1], weights.shape[1]
    draws = np.random.default_rng(n_documents).integers(0, n_documents, (n, n_documents))
    order = np.argsort(-scores.ravel(), kind="stable")
    values = scores.ravel()[order]
    is_last = np.append(values[1:] != values[:-1], True)  # ties are one step
    result = np.empty(n)
    for start in range(0, n, _LANES):
        documents = np.stack(
            [np.bincount(row, minlength=n_documents) for row in draws[start : start + _LANES]], 1
        )
        gains = _gains(relevant, weights[:, start : start + _LANES], documents)
        result[start : start + _LANES] = _highest(relevant, order, is_last, *gains, documents)
    return result


def _gains(relevant: Array, queries: Array, documents: Array) -> tuple[Array, Array]:
    """Return what a hit and a false alarm of a query give at a document's weight of one.

    Each float64 [n_queries, lanes]; NaN in lanes in which no query has a relevant document.
    """
    n_true = relevant.astype(np.float64) @ documents
    n_false = np.maximum(documents.sum(axis=0) - n_true, 1)
    used = np.where(n_true > 0, queries, 0).astype(np.float64)
    total = used.sum(axis=0)
    share = used / np.where(total > 0, total, np.nan)
    return share / np.maximum(n_true, 1), -TERM_BETA * share / n_false


def _highest(
    relevant: Array, order: Array, is_last: Array, hit: Array, alarm: Array, documents: Array
) -> Array:
    """Return the highest running sum of gains, 0 at least, going down the scores [lanes].

    It stops where what is left to be found, all of it at once, would make no sum higher.
    """
    n_documents = relevant.shape[1]
    best = np.where(np.isnan(hit[0]), np.nan, 0.0)
    value, found = np.zeros_like(best), np.zeros_like(best)
    for start in range(0, len(order), _BLOCK):
        query, document = np.divmod(order[start : start + _BLOCK], n_documents)
        wanted = relevant[query, document][:, None]
        hits = np.where(wanted, hit[query] * documents[document], 0.0)
        gains = np.where(wanted, hits, alarm[query] * documents[document])
        running = value + np.cumsum(gains, axis=0)
        stops = running[is_last[start : start + _BLOCK]]
        best = np.maximum(best, stops.max(axis=0, initial=-np.inf))
        value, found = running[-1], found + hits.sum(axis=0)
        if not (value + (1.0 - found) > best).any():
            break
    return np.asarray(best)


METRIC = Metric(
    "mtwv",
    "maximum term-weighted value",
    "queries",
    statistic=Drawn(weighted_mtwv, truth=("query_relevant",), recentre=True),
    of_arrays=_of_arrays,
    chance=lambda target, n_labels: 0.0,
)
