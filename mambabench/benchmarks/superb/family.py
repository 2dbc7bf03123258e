"""SUPERB's tasks as rows of ``tasks list``, prepared by either of their names."""

from __future__ import annotations

from mambabench.benchmarks.family import TaskFamily, TaskRow
from mambabench.benchmarks.superb import TASKS
from mambabench.benchmarks.superb.prepare import prepare

__all__ = ["FAMILY"]


def _rows() -> tuple[TaskRow, ...]:
    return tuple(
        TaskRow(
            name=task.name,
            family="superb",
            title=f"SUPERB {task.superb_name}",
            embedding_type="scene" if task.pooling == "time_mean" else "frames",
            prediction_type=task.prediction_type,
            split_mode="presplit_kfold" if task.superb_name == "ER" else "trainvaltest",
            n_splits=5 if task.superb_name == "ER" else 3,
            n_labels=task.n_labels,
            metric=task.metric,
            sample_duration_s=None,
            n_clips=task.n_clips,
            domain="speech",
        )
        for task in TASKS.values()
    )


FAMILY = TaskFamily(
    "superb",
    _rows,
    prepares=tuple(short for task in TASKS.values() for short in (task.superb_name, task.name)),
    prepare=prepare,
)
