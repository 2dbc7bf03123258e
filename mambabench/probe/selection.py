"""Which folds choose the grid point of a head: never the one that it is tested on."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from mambabench.benchmarks.task import Fold, Task, folds

__all__ = ["mean_values", "selection_folds"]


def selection_folds(task: Task, fold: Fold, n_items: int) -> tuple[Fold, ...]:
    """Return the folds whose validations choose a grid point for the head of `fold`.

    The first is `fold` itself. Where its validation split has fewer than `n_items` items, the
    validation split rotates among the others that the head may see, in the order of their names
    after the first, until so many items have been validated on or all have had their turn; what
    neither validates nor is tested trains. An item is a clip, or a reference event of a timestamp
    task. The split that `fold` tests on is in none of them.
    """
    seen = (fold.valid, *fold.train) if len(folds(task)) > 1 else (fold.valid,)
    names = sorted(seen)
    start = names.index(fold.valid)
    chosen = [fold]
    n = _n_items(task, fold.valid)
    for valid in names[start + 1 :] + names[:start]:
        if n >= n_items:
            break
        chosen.append(Fold(fold.test, valid, tuple(name for name in names if name != valid)))
        n += _n_items(task, valid)
    return tuple(chosen)


def _n_items(task: Task, split: str) -> int:
    clips = task.clips[split]
    if task.embedding_type == "event":
        return sum(len(clip.events) for clip in clips)
    return len(clips)


def mean_values(table: Sequence[Sequence[float]]) -> list[float]:
    """Return each point's mean over folds of values [point][fold], larger is better.

    A fold on which no point has a value (a label that does not occur there) tells nothing and is
    left out; a point without a value where another has one has no mean, and never wins.
    """
    telling = [i for i, column in enumerate(zip(*table, strict=True)) if not _all_nan(column)]
    return [statistics.fmean(row[i] for i in telling) if telling else math.nan for row in table]


def _all_nan(values: Sequence[float]) -> bool:
    return all(math.isnan(value) for value in values)
