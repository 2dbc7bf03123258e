"""Read a task directory in HEAR's layout and collect every defect of its text files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mambabench.benchmarks.layout.clips import (
    SOURCE_COLUMNS,
    SOURCES,
    read_clusters,
    read_split,
    with_clusters,
    with_sources,
)
from mambabench.benchmarks.layout.json_values import Json, read_object
from mambabench.benchmarks.layout.metadata import METADATA, task_of_metadata
from mambabench.benchmarks.task import Defect, Task
from mambabench.errors import DataError
from mambabench.reading.tables import read_rows
from mambabench.reading.text import same_name

if TYPE_CHECKING:
    from mambabench.benchmarks.task import Task

__all__ = ["METADATA", "SOURCES", "SOURCE_COLUMNS", "VOCABULARY", "load_task", "read_task"]

VOCABULARY = "labelvocabulary.csv"


def read_task(directory: Path, name: str | None = None) -> tuple[Task | None, list[Defect]]:
    """Return the task as far as it can be read, and every defect of its text files.

    None comes back, with at least one defect, where the metadata are unusable.
    """
    defects: list[Defect] = []
    metadata = _read_metadata(directory, defects)
    if metadata is None:
        return None, defects
    task = task_of_metadata(name or directory.resolve().name, directory, metadata, defects)
    if task is None:
        return None, defects
    labels = _read_vocabulary(directory, defects)
    clips = {split: read_split(task, split, labels, defects) for split in task.splits}
    clusters = read_clusters(directory, metadata, defects)
    if clusters:
        clips = with_clusters(clips, clusters, defects)
    if metadata.get("audio_root") is not None:
        clips = with_sources(directory, metadata["audio_root"], clips, defects)
    return replace(task, labels=labels, clips=clips), defects


def _read_metadata(directory: Path, defects: list[Defect]) -> Json | None:
    if not directory.is_dir():
        problem = "is not a directory" if directory.exists() else "does not exist"
        defects.append(Defect(METADATA, f"task directory {directory} {problem}", "fix the path"))
        return None
    remedy = "a task directory holds it, as hear-preprocess writes it"
    metadata = read_object(directory, METADATA, remedy, defects)
    return None if metadata is None else metadata


def _read_vocabulary(directory: Path, defects: list[Defect]) -> tuple[str, ...]:
    """Return the labels by index, as text: "NA", "null" and numbers stay what is written."""

    def wrong(problem: str, remedy: str) -> tuple[str, ...]:
        defects.append(Defect(VOCABULARY, problem, remedy))
        return ()

    if not (directory / VOCABULARY).is_file():
        return wrong("is missing", "list the labels as rows of idx,label")
    try:
        lines = read_rows(directory / VOCABULARY)
    except DataError as error:
        return wrong(f"cannot be read ({error})", "restore or rewrite it")
    rows = [row for _, row in lines]
    if not rows or [cell.strip() for cell in rows[0]] != ["idx", "label"]:
        return wrong("does not start with idx,label", "write that header, separated by a comma")
    for line, row in lines[1:]:
        if len(row) != 2:
            return wrong(f"row {line} has {len(row)} fields", "quote labels that contain commas")
    indices = [row[0].strip() for row in rows[1:]]
    if sorted(indices) != sorted(str(i) for i in range(len(indices))):
        return wrong("idx is not 0, 1, ... each once", "number the labels without gaps")
    numbered = sorted((int(i), same_name(row[1])) for i, row in _zip(indices, rows))
    labels = tuple(label for _, label in numbered)
    repeated = sorted({label for label in labels if labels.count(label) > 1})
    if repeated:
        return wrong(f"label {repeated[0]!r} stands twice", "keep one row for each label")
    return labels if labels else wrong("has no labels", "list the labels as rows of idx,label")


def _zip(indices: list[str], rows: list[list[str]]) -> list[tuple[str, list[str]]]:
    return list(zip(indices, rows[1:], strict=True))


def load_task(directory: Path, name: str | None = None) -> Task:
    """Read the task in `directory`; audio is not opened and may be absent.

    `name` is the task's id where the directory does not carry it (a store's copy). Raises DataError
    that names the first defect with file and remedy, and how many more there are.
    """
    directory = Path(directory)
    task, found = read_task(directory, name)
    defects = [defect for defect in found if defect.severity == "error"]
    if task is None or defects:
        more = f" ({len(defects) - 1} more: `mambabench tasks check` lists all)"
        raise DataError(f"{directory}/{defects[0]}{more if len(defects) > 1 else ''}")
    return task
