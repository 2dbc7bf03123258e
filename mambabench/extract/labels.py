"""Two encoders of one run never share a label: digits of the identity tell them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from mambabench.store.embeddings import store_folder
from mambabench.store.plan import TaskPlan

__all__ = ["Planned", "tell_apart"]


class Planned(Protocol):
    """An encoder on a task that is about to be encoded, and where it goes."""

    plan: TaskPlan
    directory: Path


def tell_apart(works: Sequence[Planned], out: Path) -> None:
    """Add eight digits of the identity to labels that several encoders of this run would share."""
    identities: dict[str, set[str]] = {}
    for work in works:
        identities.setdefault(work.plan.spec.label, set()).add(work.plan.spec.identity)
    for work in works:
        spec = work.plan.spec
        if len(identities[spec.label]) > 1:
            label = f"{spec.label}@{spec.identity[:8]}"
            work.plan = replace(work.plan, spec=replace(spec, label=label))
            work.directory = store_folder(out, label, work.plan.task.name)
