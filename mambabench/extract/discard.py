"""Take away what another encoder left in a task's folder: the option ``--replace``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from mambabench.errors import StoreError
from mambabench.selfhash import parse_hashed
from mambabench.store.plan import TaskPlan
from mambabench.store.seal import check_same_encoder, locked
from mambabench.store.shards import plan_path

__all__ = ["discard_others"]


def discard_others(layout: Any, directory: Path, plan: TaskPlan) -> bool:
    """Remove embeddings in `directory` that are not of this plan; say whether there were any.

    `layout` is the module that seals. What is of this plan stays, sealed or half filled, and so
    does a folder in the other layout, which is refused as ever.
    """
    if not directory.is_dir():
        return False
    foreign = _is_foreign(layout, directory, plan)
    if not foreign and not _is_begun_by_another(directory, plan):
        return False
    with locked(directory):
        if foreign:
            layout.unseal(directory)  # first: for readers it is gone from here on
        for path in sorted(directory.iterdir()):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    return True


def _is_foreign(layout: Any, directory: Path, plan: TaskPlan) -> bool:
    """Say whether `directory` is sealed with what another plan made of it."""
    found = layout.stored_task(directory)
    if found is None:
        return False
    try:
        return not layout.is_sealed(directory, plan)
    except StoreError:
        return True


def _is_begun_by_another(directory: Path, plan: TaskPlan) -> bool:
    try:
        check_same_encoder(directory, parse_hashed(plan_path(directory).read_bytes()), plan.spec)
    except StoreError:
        return True
    except (OSError, ValueError, KeyError):
        return False
    return False
