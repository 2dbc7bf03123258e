"""List, show and check tasks: the Python twin of ``mambabench tasks``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mambabench.benchmarks import discover, find_directories, near_tasks
from mambabench.benchmarks.family import Prepared, TaskFamily, TaskRow
from mambabench.benchmarks.layout.check import TaskCheck, check_directory
from mambabench.benchmarks.layout.read import load_task
from mambabench.benchmarks.task import Task
from mambabench.errors import DataError
from mambabench.plugins import Registry

__all__ = ["FAMILIES", "check", "list", "prepare", "show"]

FAMILIES: Registry[TaskFamily] = Registry(
    "tasks",
    TaskFamily,
    {
        "affect": "mambabench.benchmarks.affect_tasks:FAMILY",
        "demo": "mambabench.benchmarks.demo.family:FAMILY",
        "hear": "mambabench.benchmarks.hear.family:FAMILY",
        "superb": "mambabench.benchmarks.superb.family:FAMILY",
    },
)


def list(tasks: Sequence[Path | str] = ()) -> tuple[TaskRow, ...]:
    """Return the tasks known by name, or those found in the folders `tasks`."""
    if tasks:
        return tuple(_row(task) for task in discover([Path(path) for path in tasks]))
    return tuple(row for family in sorted(FAMILIES) for row in FAMILIES[family].rows())


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


def prepare(name: str, data: Path | str, to: Path | str = "tasks") -> Prepared:
    """Write the task directory `to`/`name` of a corpus in its own layout below `data`.

    The directory points at the corpus; no audio is copied. Raises DataError where the corpus lacks
    what its splits or labels need.
    """
    for family in FAMILIES.values():
        if name in family.prepares and family.prepare is not None:
            return family.prepare(name, Path(data), Path(to))
    known = [name for family in FAMILIES.values() for name in family.prepares]
    raise DataError(
        f"no corpus is prepared as task {name!r}{near_tasks(name, known)}; known: "
        f"{', '.join(known)}"
    )
