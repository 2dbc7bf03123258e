"""Two encoders of one run never share a label: digits of the identity tell them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mambabench.store.embeddings import store_folder

if TYPE_CHECKING:
    from mambabench.extract.verb import _Work

__all__ = ["tell_apart"]


def tell_apart(works: Sequence[_Work], out: Path) -> None:
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
