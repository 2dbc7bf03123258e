"""Queries: clips that are sought in documents."""

from __future__ import annotations

from mambabench.benchmarks.kinds.kind import LENGTHS, Kind

__all__ = ["KIND", "RELEVANCE"]

RELEVANCE = "relevance.csv"  # columns split, query, document
KIND = Kind(
    "queries",
    "nothing; relevance.csv says which documents hold which query",
    own_metrics=True,
    any_splits=True,
    seeded=False,  # a search trains nothing
    relations=(RELEVANCE, LENGTHS),
)
