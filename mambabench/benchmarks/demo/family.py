"""The generated demo tasks as rows of ``tasks list``."""

from __future__ import annotations

from collections.abc import Iterator

from mambabench.benchmarks.demo import DEMO_TASKS, describe
from mambabench.benchmarks.family import TaskFamily, TaskRow

__all__ = ["FAMILY"]


# name -> title, as the column of a table has it, and domain
_NAMED = {
    "demo_events": ("Events", "sound"),
    "demo_percussion": ("Percussion", "music"),
    "demo_pitch": ("Pitch", "music"),
    "demo_vowel": ("Vowel", "speech"),
}


def _rows() -> Iterator[TaskRow]:
    for name in sorted(DEMO_TASKS):
        task = describe(name)
        metadata = task.metadata
        title, domain = _NAMED[metadata["task_name"]]
        yield TaskRow(
            name=name,
            family="demo",
            title=title,
            embedding_type=metadata["embedding_type"],
            prediction_type=metadata["prediction_type"],
            split_mode=metadata["split_mode"],
            n_splits=len(metadata["splits"]),
            n_labels=len(task.labels),
            metric=metadata["evaluation"][0],
            sample_duration_s=metadata["sample_duration"],
            n_clips=len(task.clips),
            domain=domain,
            hours=len(task.clips) * metadata["sample_duration"] / 3600,
        )


FAMILY = TaskFamily("demo", _rows, short_titles=True)
