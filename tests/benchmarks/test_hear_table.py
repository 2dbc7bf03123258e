"""HEAR's table: nineteen tasks in twenty directories, each consistent in itself."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from mambabench.benchmarks.hear import DIRECTORIES, HEAR_TASKS, HearTask
from mambabench.benchmarks.metrics import METRICS


def test_nineteen_tasks_in_twenty_directories() -> None:
    assert len(HEAR_TASKS) == len({task.title for task in HEAR_TASKS}) == 19
    assert len(DIRECTORIES) == 20
    assert [t.title for t in HEAR_TASKS if len(t.directories) == 2] == ["Beehive"]
    assert sum(task.in_ssam_paper for task in HEAR_TASKS) == 10


def test_directories_are_those_of_the_leaderboard() -> None:
    published = (
        Path(__file__).resolve().parents[2] / "results" / "published" / "hear_leaderboard.csv"
    )
    with published.open(newline="", encoding="utf-8") as file:
        named = {row["task_directory"] for row in csv.DictReader(file)}
    single = {task.directories[0] for task in HEAR_TASKS if len(task.directories) == 1}
    assert single <= named


@pytest.mark.parametrize("task", HEAR_TASKS, ids=lambda task: task.title)
def test_each_row_is_consistent(task: HearTask) -> None:
    assert all(METRICS[name].kind == task.embedding_type for name in task.evaluation)
    assert task.n_splits == 3 or task.split_mode.endswith("kfold")
    assert (task.split_mode == "trainvaltest") <= (task.n_splits == 3)
    assert task.n_clips > task.n_labels
    assert (task.sample_duration_s is None) == (task.title == "FSD50K")
