"""List, show and check tasks: the Python twin of ``mambabench tasks``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mambabench.benchmarks import discover, find_directories
from mambabench.benchmarks.family import Prepared, TaskRow
from mambabench.benchmarks.known import FAMILIES, known_rows
from mambabench.benchmarks.layout.check import TaskCheck, check_directory
from mambabench.benchmarks.layout.read import load_task
from mambabench.benchmarks.making.write import make
from mambabench.benchmarks.names import named_tasks, near_tasks
from mambabench.benchmarks.task import Task
from mambabench.errors import DataError
from mambabench.settings import Names, Paths

__all__ = ["FAMILIES", "check", "list", "make", "prepare", "show"]


def list(tasks: Paths = (), names: Names = ()) -> tuple[TaskRow, ...]:
    """Return the tasks known by name, or those found in the folders `tasks`.

    `names` (short ones, globs, groups such as "speech") choose among them; DataError, with the
    nearest, for one that means none.
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    folders = _folders(tasks)
    if folders:
        return tuple(_row(task) for task in discover(folders, names))
    rows = known_rows()
    chosen = {meant for name in names for meant in _meant(name, [row.name for row in rows])}
    return tuple(row for row in rows if not names or row.name in chosen)


def _folders(tasks: Paths) -> Sequence[Path]:
    return [Path(one) for one in ((tasks,) if isinstance(tasks, str | Path) else tasks)]


def _meant(name: str, known: Sequence[str]) -> tuple[str, ...]:
    found = named_tasks(name, known)
    if not found:
        near = near_tasks(name, known)
        raise DataError(
            f"no task named {name!r}, and no such directory{near}; `tasks list` names all"
        )
    return found


def show(task: Path | str, tasks: Paths = ()) -> Task | TaskRow:
    """Return one task: read from a directory, found by name in the folders `tasks`, or known.

    Raises DataError with the nearest names where there is none, or several.
    """
    folders = _folders(tasks)
    if folders:
        paths = {path.resolve().name: path for path in find_directories(folders, [str(task)])}
        return load_task(paths[_only(str(task), tuple(paths))])
    if Path(task).is_dir():
        return load_task(Path(task))
    known = {row.name: row for row in known_rows()}
    return known[_only(str(task), _meant(str(task), tuple(known)))]


def _only(name: str, found: Sequence[str]) -> str:
    if len(found) > 1:
        raise DataError(f"{name!r} means {len(found)} tasks: name one of {', '.join(found)}")
    return found[0]


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
    known = {row.name: row for row in known_rows()}.get(task.name)
    return TaskRow(
        name=task.name,
        family="found",
        title=known.title if known else task.name,
        embedding_type=task.embedding_type,
        prediction_type=task.prediction_type,
        split_mode=task.split_mode,
        n_splits=len(task.splits),
        n_labels=len(task.labels),
        metric=task.evaluation[0],
        sample_duration_s=task.sample_duration_s,
        n_clips=sum(len(clips) for clips in task.clips.values()),
        directory=str(task.directory),
        domain=known.domain if known else "",
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
