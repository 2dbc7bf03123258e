"""Letters that are read as words, with or without slots among them."""

from __future__ import annotations

from mambabench.benchmarks.kinds.kind import LENGTHS, Kind

__all__ = ["KIND", "WITH_SLOTS"]

KIND = Kind(
    "text",
    "letters in order, | after every word; label 0 of the vocabulary is the blank",
    own_metrics=True,
    repeats=True,
    relations=(LENGTHS,),
)
WITH_SLOTS = Kind(
    "slot_text",
    "letters in order, slots between B-type and E-type; label 0 is the blank",
    own_metrics=True,
    repeats=True,
    relations=(LENGTHS,),
)
