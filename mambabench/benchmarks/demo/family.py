"""The generated demo tasks as rows of ``tasks list``."""

from __future__ import annotations

from collections.abc import Iterator

from mambabench.benchmarks.demo import DEMO_TASKS, describe
from mambabench.benchmarks.family import TaskFamily, TaskRow

__all__ = ["FAMILY"]


_DOMAINS = {
    "demo_events": "sound",
    "demo_percussion": "music",
    "demo_pitch": "music",
    "demo_vowel": "speech",
}


def _rows() -> Iterator[TaskRow]:
    for name in sorted(DEMO_TASKS):
        task = describe(name)
        metadata = task.metadata
        yield TaskRow(
            name=name,
            family="demo",
            title=metadata["task_name"],
            embedding_type=metadata["embedding_type"],
            prediction_type=metadata["prediction_type"],
            split_mode=metadata["split_mode"],
            n_splits=len(metadata["splits"]),
            n_labels=len(task.labels),
            metric=metadata["evaluation"][0],
            sample_duration_s=metadata["sample_duration"],
            n_clips=len(task.clips),
            domain=_DOMAINS[metadata["task_name"]],
            hours=len(task.clips) * metadata["sample_duration"] / 3600,
        )


FAMILY = TaskFamily("demo", _rows)
