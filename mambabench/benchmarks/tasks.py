"""List, show and check tasks: the Python twin of ``mambabench tasks``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from mambabench.benchmarks import discover, find_directories, near_tasks
from mambabench.benchmarks.family import TaskRow
from mambabench.benchmarks.layout.check import TaskCheck, check_directory
from mambabench.benchmarks.layout.read import load_task
from mambabench.benchmarks.task import Task
from mambabench.errors import DataError

if TYPE_CHECKING:
    from mambabench.benchmarks.family import Prepared

__all__ = ["FAMILIES", "check", "list", "prepare", "show"]

# family -> function that returns its TaskRows; the entry-point group "mambabench.tasks" adds others
FAMILIES: dict[str, str] = {
    "demo": "mambabench.benchmarks.tasks:_demo_rows",
    "hear": "mambabench.benchmarks.tasks:_hear_rows",
    "superb": "mambabench.benchmarks.tasks:_superb_rows",
    "affect": "mambabench.benchmarks.affect_tasks:task_rows",
}


def list(tasks: Sequence[Path | str] = ()) -> tuple[TaskRow, ...]:
    """Return the tasks known by name, or those found in the folders `tasks`."""
    if tasks:
        return tuple(_row(task) for task in discover([Path(path) for path in tasks]))
    return tuple(row for rows in _families().values() for row in rows)


def show(task: Path | str, tasks: Sequence[Path | str] = ()) -> Task | TaskRow:
    """Return one task: read from a directory, found by name in the folders `tasks`, or known.

    Raises DataError with the nearest names where there is none.
    """
    if tasks:
        return load_task(find_directories([Path(path) for path in tasks], [str(task)])[0])
    if Path(task).is_dir():
        return load_task(Path(task))
    known = {row.name: row for row in list()}
    if str(task) not in known:
        near = near_tasks(str(task), known)
        raise DataError(
            f"no task named {str(task)!r}, and no such directory{near}; `tasks list` names all"
        )
    return known[str(task)]


def check(
    *directories: Path | str,
    jobs: int = 2,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[TaskCheck, ...]:
    """Check task directories, or folders of them, and return every defect of each.

    `progress` is called with (task, audio files done, audio files in all).
    """
    if not directories:
        raise DataError("no directory to check; name a task directory or a folder of several")
    results = []
    for directory in find_directories([Path(path) for path in directories]):
        report = _progress_of(directory.name, progress)
        results.append(check_directory(directory, jobs=jobs, progress=report))
    return tuple(results)


def _progress_of(
    name: str, progress: Callable[[str, int, int], None] | None
) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(name, done, total)


def _families() -> dict[str, tuple[TaskRow, ...]]:
    functions = dict(FAMILIES)
    functions.update({e.name: e.value for e in entry_points(group="mambabench.tasks")})
    result = {}
    for family, target in sorted(functions.items()):
        module, _, attribute = target.partition(":")
        result[family] = tuple(getattr(import_module(module), attribute)())
    return result


def _row(task: Task) -> TaskRow:
    return TaskRow(
        name=task.name,
        family="found",
        title=task.name,
        embedding_type=task.embedding_type,
        prediction_type=task.prediction_type,
        split_mode=task.split_mode,
        n_splits=len(task.splits),
        n_labels=len(task.labels),
        metric=task.evaluation[0],
        sample_duration_s=task.sample_duration_s,
        n_clips=sum(len(clips) for clips in task.clips.values()),
        directory=str(task.directory),
    )


def _hear_rows() -> Iterator[TaskRow]:
    from mambabench.benchmarks.hear import DIRECTORIES

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


def _demo_rows() -> Iterator[TaskRow]:
    from mambabench.benchmarks.demo import DEMO_TASKS, describe

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
        )


def _superb_rows() -> tuple[TaskRow, ...]:
    from mambabench.benchmarks.superb import TASKS

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
        )
        for task in TASKS.values()
    )


def prepare(name: str, data: Path | str, to: Path | str = "tasks") -> Prepared:
    """Write the task directory `to`/`name` of a corpus in its own layout below `data`.

    The directory points at the corpus; no audio is copied. Raises DataError where the corpus lacks
    what its splits or labels need.
    """
    from mambabench.benchmarks.affect_tasks import TASKS, prepare_affect
    from mambabench.benchmarks.superb import TASKS as SUPERB
    from mambabench.benchmarks.superb.prepare import prepare as prepare_superb

    if name in TASKS:
        return prepare_affect(name, Path(data), Path(to))
    known = [short for task in SUPERB.values() for short in (task.superb_name, task.name)]
    if name not in known:
        near = near_tasks(name, [*known, *TASKS])
        raise DataError(
            f"no corpus is prepared as task {name!r}{near}; known: "
            f"{', '.join([task.superb_name for task in SUPERB.values()])}, {', '.join(TASKS)}"
        )
    return prepare_superb(name, Path(data), Path(to))
