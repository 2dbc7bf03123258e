"""HEAR's tasks as rows of ``tasks list``; they come as archives, so none is prepared here."""

from __future__ import annotations

from collections.abc import Iterator

from mambabench.benchmarks.family import TaskFamily, TaskRow
from mambabench.benchmarks.hear import DIRECTORIES

__all__ = ["FAMILY"]


def _rows() -> Iterator[TaskRow]:
    for name, task in DIRECTORIES.items():
        yield TaskRow(
            name=name,
            family="hear",
            title=task.title,
            embedding_type=task.embedding_type,
            prediction_type=task.prediction_type,
            split_mode=task.split_mode,
            n_splits=task.n_splits,
            n_labels=task.n_labels,
            metric=task.evaluation[0],
            sample_duration_s=task.sample_duration_s,
            n_clips=task.n_clips,
        )


FAMILY = TaskFamily("hear", _rows)
