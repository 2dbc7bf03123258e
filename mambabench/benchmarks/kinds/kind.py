"""What a kind of answer is: what a clip's label says, and which rules follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["LENGTHS", "Kind"]

LENGTHS = "lengths.json"  # "<split>/<clip>" -> samples at 16 kHz, of kinds that keep frames


@dataclass(frozen=True)
class Kind:
    """One kind of answer, found by a task's ``prediction_type``.

    Protocols choose the family that trains its heads by its name.
    """

    name: str
    says: str  # what a clip's label is, for the docs
    classes: bool = False  # labels are classes: each must occur in training to be predicted
    exactly_one: bool = False  # a clip has one label
    repeats: bool = False  # a clip may carry a label more than once: they are a sequence
    own_metrics: bool = False  # metrics of its own instead of those of scenes or events
    any_splits: bool = False  # splits other than train, valid and test
    timestamps: bool = False  # its answers are events, though it is told from timestamp tasks
    seeded: bool = True  # False: its families train nothing that a seed could change
    relations: tuple[str, ...] = ()  # files beside the splits that say what labels cannot

    def labels_fault(self, clip: str, labels: Sequence[str]) -> tuple[str, str] | None:
        """Return what is wrong with a scene clip's labels, and the remedy; else None."""
        if self.exactly_one and len(labels) != 1:
            problem = f"clip {clip!r} has {len(labels)} labels"
            return problem, f"{self.name} tasks have exactly one"
        if not self.repeats and len(set(labels)) < len(labels):
            return f"clip {clip!r} names a label twice", "name each label once"
        return None
