"""Kinds of answers: what a clip's label is, and which rules of the layout follow from it.

A kind is a row of `KINDS`, found by a task's ``prediction_type``. The families of
`probe/families` are chosen by it.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["KINDS", "Kind"]


@dataclass(frozen=True)
class Kind:
    """One kind of answer."""

    name: str  # a task's prediction_type
    says: str  # what a clip's label is, for the docs
    own_metrics: bool = False  # metrics of its own instead of those of scenes or events
    repeats: bool = False  # a clip may carry a label more than once: they are a sequence
    any_splits: bool = False  # splits other than train, valid and test
    relations: tuple[str, ...] = ()  # files beside the splits that say what labels cannot


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("multiclass", "one label"),
        Kind("multilabel", "any number of labels, or of events"),
        Kind("slots", "a label slot=value for every slot", own_metrics=True),
        Kind(
            "sequence",
            "symbols in order; label 0 of the vocabulary is the blank",
            own_metrics=True,
            repeats=True,
            relations=("lengths.json",),
        ),
        Kind(
            "text",
            "letters in order, | after every word; label 0 of the vocabulary is the blank",
            own_metrics=True,
            repeats=True,
            relations=("lengths.json",),
        ),
        Kind(
            "slot_text",
            "letters in order, slots between B-type and E-type; label 0 is the blank",
            own_metrics=True,
            repeats=True,
            relations=("lengths.json",),
        ),
        Kind(
            "trials",
            "its speaker; trials.csv says which clips are compared",
            own_metrics=True,
            any_splits=True,
            relations=("trials.csv", "lengths.json"),
        ),
        Kind(
            "queries",
            "nothing; relevance.csv says which documents hold which query",
            own_metrics=True,
            any_splits=True,
            relations=("relevance.csv", "lengths.json"),
        ),
        Kind(
            "diarization",
            "events whose labels are speakers, two a clip",
            own_metrics=True,
            relations=("lengths.json",),
        ),
    )
}
