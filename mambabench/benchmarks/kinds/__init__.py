"""Kinds of answers, a file each: what a clip's label is, and which rules of the layout follow.

A kind is found by a task's ``prediction_type``; protocols choose the families of `probe` by it.
"""

from __future__ import annotations

from mambabench.benchmarks.kinds import (
    diarization,
    labels,
    queries,
    sequence,
    slots,
    text,
    trials,
)
from mambabench.benchmarks.kinds.kind import Kind

__all__ = ["KINDS", "Kind"]

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        labels.MULTICLASS,
        labels.MULTILABEL,
        slots.KIND,
        sequence.KIND,
        text.KIND,
        text.WITH_SLOTS,
        trials.KIND,
        queries.KIND,
        diarization.KIND,
    )
}
