"""SUPERB's protocols on stored embeddings: which family fits a task, and its folds' trials.

``superb`` follows s3prl 0.4.18, its selections on test data included (ASV: the best checkpoint by
test trials); ``superb-clean`` selects on development data only: ER's development speakers are not
trained on, ASV's checkpoint is chosen on held-out training speakers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from mambabench.benchmarks.superb.notes import notes_of
from mambabench.probe.families.trials import FoldPlan
from mambabench.probe.protocols import Inapplicable

if TYPE_CHECKING:
    from mambabench.probe.plan import TaskPlan

__all__ = ["FAMILIES", "plan_folds", "record_notes"]

# kind of task -> module of this package with ``plan_fold(stored, protocol, seed, fold)``
FAMILIES = {
    "multiclass": "utterances",
    "slots": "utterances",
    "sequence": "phones",
    "trials": "speakers",
    "queries": "queries",
    "text": "sequences",
    "slot_text": "sequences",
    "diarization": "diarization",
}


def plan_folds(plan: TaskPlan, seed: int) -> Sequence[FoldPlan]:
    """Return the folds of the plan's task; Inapplicable where no SUPERB head fits its kind."""
    stored, preset = plan.rows.stored, plan.protocol
    kind = stored.task.prediction_type
    scene = stored.task.embedding_type == "scene" or kind == "diarization"
    if kind not in FAMILIES or not scene:
        raise Inapplicable(
            f"{preset.name} does not apply to {stored.task.name}: SUPERB has no head for "
            f"{stored.task.embedding_type} tasks with {kind} labels; use sound or a kit protocol"
        )
    family = import_module(f"mambabench.probe.families.{FAMILIES[kind]}")
    plan_fold: Callable[..., FoldPlan] = family.plan_fold
    return [plan_fold(stored, preset, seed, fold) for fold in plan.rows.folds]


def record_notes(plan: TaskPlan) -> tuple[str, ...]:
    """Return what a reader of the plan's records must know: where they are not s3prl's."""
    task = plan.rows.stored.task
    return tuple(dict.fromkeys((*task.notes, *notes_of(task, plan.protocol.clean))))
