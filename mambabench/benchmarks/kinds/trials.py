"""Trials: pairs of clips, of one speaker or of two."""

from __future__ import annotations

from mambabench.benchmarks.kinds.kind import LENGTHS, Kind

__all__ = ["KIND", "TRIALS"]

TRIALS = "trials.csv"  # columns same, first, second
KIND = Kind(
    "trials",
    "its speaker; trials.csv says which clips are compared",
    own_metrics=True,
    any_splits=True,
    relations=(TRIALS, LENGTHS),
)
