"""Scores that stand beside a task's own and count nowhere: ASR decoded with a language model.

SUPERB prints a second word error rate, which is in none of its scores. Here it has a column, means
and intervals of its own, and takes part in no rank, comparison, overall score or mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mambabench.benchmarks.metrics import metric_of
from mambabench.benchmarks.metrics.ratios import WORD_ERRORS_LM
from mambabench.report.cells import BESIDE, Head, column_of
from mambabench.report.formats.tables import unit
from mambabench.report.runs import Group, Run

if TYPE_CHECKING:
    from mambabench.report.rows import Row, Summary

__all__ = ["group_beside", "language_models", "with_columns_beside"]


def language_models(group: Group) -> tuple[str, ...]:
    """Return the names of the language models that a group's runs were decoded with."""
    folds = [fold for run in group.runs for fold in run.record.folds]
    return tuple(
        sorted(
            {
                str(fold.grid_point["language_model"])
                for fold in folds
                if "language_model" in fold.grid_point
            }
        )
    )


def group_beside(group: Group) -> Group | None:
    """Return the group with the score beside in the place of its own; None where some run has none.

    A score is the mean over folds, as the group's own. The digests differ from the group's, so that
    what is cached of one is never taken for the other.
    """
    name = WORD_ERRORS_LM.name
    if group.metric == name:
        return None
    runs: list[Run] = []
    for run in group.runs:
        found = [fold.scores.get(name) for fold in run.record.folds]
        known = [score for score in found if score is not None]
        if not found or len(known) < len(found):
            return None
        record = replace(
            run.record,
            metric=name,
            higher_is_better=metric_of(name).higher_is_better,
            score=float(np.mean(known)),
        )
        runs.append(replace(run, record=record, digest=f"{run.digest} {name}"))
    return replace(group, runs=tuple(runs))


def with_columns_beside(
    columns: Sequence[Head], summary: Summary, protocol: str
) -> tuple[list[Head], dict[tuple[str, str], Row]]:
    """Return the columns of tasks, each followed by that of the score beside it, if it has one.

    And the rows of those columns by encoder and column.
    """
    rows = [row for row in summary.beside if row.protocol == protocol]
    found: list[Head] = []
    for head in columns:
        found.append(head)
        own = next((row for row in rows if row.task == head.key), None)
        if own is not None:
            sub = f"{own.metric}{unit(own.metric, own.higher_is_better)}, in no score"
            key = column_of(own.task, own.metric)
            found.append(Head(key, head.title + BESIDE, sub, "beside"))
    return found, {(row.encoder, column_of(row.task, row.metric)): row for row in rows}
