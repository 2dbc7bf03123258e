"""Seek queries in documents by subsequence DTW over frames: nothing is trained.

Source: s3prl 0.4.18, downstream `quesst14_dtw`; SUPERB (Yang et al. 2021), table 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["MIN_QUERY_FRAMES", "query_scores", "subsequence_dtw", "z_normalise"]

MIN_QUERY_FRAMES = 5  # shorter queries score 0

Array = npt.NDArray[np.float64]


def subsequence_dtw(cost: Array, lengths: npt.NDArray[np.int64]) -> Array:
    """Return the normalised distance of one query to each of several documents.

    `cost` is [n_documents, n_query, n_document_frames], padded; `lengths` [n_documents] says how
    many frames count. Asymmetric steps (each query frame advances the document by 0, 1 or 2), free
    begin and end in the document, divided by the number of query frames. Returns [n_documents].
    """
    total = np.where(np.arange(cost.shape[2]) < lengths[:, None], cost[:, 0], np.inf)
    for row in range(1, cost.shape[1]):
        best = total.copy()
        np.minimum(best[:, 1:], total[:, :-1], out=best[:, 1:])
        np.minimum(best[:, 2:], total[:, :-2], out=best[:, 2:])
        total = best + cost[:, row]
    valid = np.where(np.arange(cost.shape[2]) < lengths[:, None], total, np.inf)
    distance: Array = valid.min(axis=1) / cost.shape[1]
    return distance


def _costs(query: Array, document: Array) -> Array:
    """Return [n_query, n_frames]: exp of the cosine distance, minus one, min-max scaled a row."""
    similarity = (query / np.maximum(np.linalg.norm(query, axis=1, keepdims=True), 1e-12)) @ (
        document / np.maximum(np.linalg.norm(document, axis=1, keepdims=True), 1e-12)
    ).T
    cost: Array = np.expm1(1.0 - similarity)
    low, high = cost.min(axis=1, keepdims=True), cost.max(axis=1, keepdims=True)
    scaled: Array = (cost - low) / np.maximum(high - low, 1e-12)
    return scaled


def query_scores(query: Array, documents: Sequence[Array], batch: int = 64) -> Array:
    """Return a score for each document (higher: more likely to contain the query).

    `query` is [n_query, dim], each document [n_frames, dim], standardised with the statistics of
    all queries and documents. Queries of fewer than five frames score 0 everywhere.
    """
    scores = np.zeros(len(documents))
    if len(query) < MIN_QUERY_FRAMES:
        return scores
    for start in range(0, len(documents), batch):
        part = documents[start : start + batch]
        lengths = np.array([len(document) for document in part])
        cost = np.zeros((len(part), len(query), lengths.max()))
        for index, document in enumerate(part):
            cost[index, :, : len(document)] = _costs(query, document)
        scores[start : start + batch] = -subsequence_dtw(cost, lengths)
    return scores


def z_normalise(scores: Array) -> Array:
    """Return scores [n_queries, n_documents] with zero mean and unit deviation per query."""
    spread = scores.std(axis=1, keepdims=True)
    centred: Array = (scores - scores.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1)
    return centred
