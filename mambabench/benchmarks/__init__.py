"""Tasks: what is measured. One file a task, HEAR's nineteen as one table; splits and metrics."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from mambabench.benchmarks.layout.check import stray_files
from mambabench.benchmarks.layout.read import load_task
from mambabench.benchmarks.names import groups, named_tasks, near_tasks
from mambabench.benchmarks.task import Task
from mambabench.errors import DataError

__all__ = ["StrayFileWarning", "discover", "find_directories", "near_tasks"]


class StrayFileWarning(UserWarning):
    """Files in a folder of tasks that no task names; they are ignored."""


def find_directories(directories: Sequence[Path], names: Sequence[str] = ()) -> tuple[Path, ...]:
    """Return the task directories that `directories` are or contain, sorted by task name.

    Each of `directories` is one task directory or a parent of several. `names` chooses among them:
    directories' names, short ones, titles, globs and groups (`named_tasks`).
    Entries of a parent that are no tasks are named in one StrayFileWarning. Raises DataError where
    a folder holds no task, a name is unknown, or two folders hold tasks of the same name.
    """
    found: dict[str, Path] = {}
    strangers: list[str] = []
    for directory in directories:
        for path in _tasks_in(Path(directory), strangers):
            other = found.setdefault(path.resolve().name, path)
            if other.resolve() != path.resolve():
                raise DataError(
                    f"two tasks are named {path.resolve().name!r}: {other} and {path}; the "
                    "directory's name is a task's id, so rename or leave out one of them"
                )
    if strangers:
        _warn("no tasks", strangers)
    chosen: set[str] = set()
    for name in names:
        meant = named_tasks(name, found)
        if not meant:
            what = "of the group" if name in groups() else "named"
            near = near_tasks(name, found)
            raise DataError(f"no task {what} {name!r} in {_listed(directories)}{near}")
        chosen.update(meant)
    return tuple(found[name] for name in sorted(chosen or found))


def discover(directories: Sequence[Path], names: Sequence[str] = ()) -> tuple[Task, ...]:
    """Read the tasks that `directories` are or contain, sorted by name.

    As `find_directories`, and raises DataError for the first defect of a chosen task. Files of a
    task directory that its metadata and splits do not name come in one StrayFileWarning per task.
    """

    tasks = tuple(load_task(path) for path in find_directories(directories, names))
    for task in tasks:
        strangers = stray_files(task)
        if strangers:
            _warn(f"not of task {task.name}", [str(task.directory / s) for s in strangers])
    return tasks


def _tasks_in(directory: Path, strangers: list[str]) -> list[Path]:
    if not directory.is_dir():
        problem = "is not a directory" if directory.exists() else "does not exist"
        raise DataError(f"tasks folder {directory} {problem}; give a task directory or its parent")
    if (directory / "task_metadata.json").is_file():
        return [directory]
    entries = sorted(directory.iterdir())
    tasks = [entry for entry in entries if (entry / "task_metadata.json").is_file()]
    if not tasks:
        below = sorted({path.parent.parent for path in directory.glob("*/*/task_metadata.json")})
        hint = f"; did you mean {below[0]}?" if below else ""
        raise DataError(
            f"no task in {directory}: neither it nor a folder directly in it holds "
            f"task_metadata.json{hint}"
        )
    strangers.extend(str(e) for e in entries if e not in tasks and not _is_temporary(e.name))
    return tasks


def _is_temporary(name: str) -> bool:
    """Tell whether another process is just writing this entry (the demo tasks)."""
    return name.startswith(".") and name.endswith(".tmp")


def _warn(what: str, paths: list[str]) -> None:
    shown = ", ".join(paths[:10]) + (f" and {len(paths) - 10} more" if len(paths) > 10 else "")
    warnings.warn(f"ignored, {what}: {shown}", StrayFileWarning, stacklevel=3)


def _listed(directories: Sequence[Path]) -> str:
    return ", ".join(str(d) for d in directories)
