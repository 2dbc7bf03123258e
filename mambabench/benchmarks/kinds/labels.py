"""Labels of classes: one a clip, or any number, of a clip or of its events."""

from __future__ import annotations

from mambabench.benchmarks.kinds.kind import Kind

__all__ = ["MULTICLASS", "MULTILABEL"]

MULTICLASS = Kind("multiclass", "one label", classes=True, exactly_one=True)
MULTILABEL = Kind("multilabel", "any number of labels, or of events", classes=True)
