"""SUPERB's tasks as rows of ``tasks list``, prepared by either of their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from mambabench.benchmarks.family import FamilyScore, TaskFamily, TaskRow
from mambabench.benchmarks.superb import TASKS
from mambabench.benchmarks.superb.prepare import prepare
from mambabench.benchmarks.superb.score import TASK_METRICS, points
from mambabench.benchmarks.task import Defect

__all__ = ["FAMILY", "SCORE"]

# the BibTeX keys of the corpora
_SOURCES = {
    "KS": ("warden2018speech",),
    "IC": ("lugosch2019fluent",),
    "SID": ("nagrani2017voxceleb",),
    "ER": ("busso2008iemocap",),
    "PR": ("panayotov2015librispeech",),
    "ASR": ("panayotov2015librispeech",),
    "SF": ("coucke2018snips", "lai2021semi"),
    "SD": ("cosentino2020librimix",),
    "ASV": ("nagrani2017voxceleb",),
    "QbE": ("anguera2015quesst",),
}


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
            sources=_SOURCES[task.superb_name],
        )
        for task in TASKS.values()
    )


def _check(name: str, data: Path) -> Iterator[Defect]:
    for found in TASKS[name].check(data):
        yield Defect(found.where, found.problem, found.remedy)


def _points(name: str, values: Mapping[str, float]) -> float | None:
    """Return a task's points; the website's metrics are ours, in the same order."""
    task = TASKS[name]
    theirs = dict(zip(task.metrics, TASK_METRICS[task.superb_name], strict=False))
    known = {theirs[metric]: value for metric, value in values.items() if metric in theirs}
    return points(task.superb_name, known)


_DIRECTORIES = {task.superb_name: task.name for task in TASKS.values()}
SCORE = FamilyScore(
    "SUPERB score",
    "SUPERB points",
    protocols=("superb", "superb-clean"),
    tasks={_DIRECTORIES[short]: short for short in TASK_METRICS},
    references=("FBANK", "best of 2021"),
    points=_points,
)
FAMILY = TaskFamily(
    "superb",
    _rows,
    prepares=tuple(short for task in TASKS.values() for short in (task.superb_name, task.name)),
    prepare=prepare,
    check=_check,
    score=SCORE,
    short_titles=True,
    sources=("yang2021superb",),
)
