"""Sequences of symbols, such as phones."""

from __future__ import annotations

from mambabench.benchmarks.kinds.kind import LENGTHS, Kind

__all__ = ["KIND"]

KIND = Kind(
    "sequence",
    "symbols in order; label 0 of the vocabulary is the blank",
    own_metrics=True,
    repeats=True,
    relations=(LENGTHS,),
)
