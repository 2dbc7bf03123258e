"""A part of a task as a task of its own; for a quick look a few clips of each split."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mambabench.benchmarks.kinds import KINDS
from mambabench.benchmarks.layout.clips import SOURCES
from mambabench.benchmarks.layout.metadata import METADATA
from mambabench.benchmarks.layout.read import load_task
from mambabench.benchmarks.task import Task
from mambabench.errors import DataError
from mambabench.files import read_json, write_json

__all__ = ["subset_task", "whole_task", "write_part"]


def subset_task(directory: Path, below: Path, max_clips: int) -> Path:
    """Write the task of at most `max_clips` clips a split below `below` and return its folder.

    It is called ``TASK.max<N>`` and is limited, so that no result of it passes for the full
    task's. Labels come in turn, within a label clips in the order of a hash of their names: the
    choice is the same everywhere, and one of fewer clips is part of one of more. The same call
    again writes the same. Raises DataError as `whole_task` and `write_part` do.
    """
    if max_clips < 1:
        raise DataError(f"max_clips = {max_clips}: keep at least one clip a split")
    task = whole_task(directory)
    kept = {s: _chosen(read_json(directory / f"{s}.json"), max_clips) for s in task.splits}
    target = below / f"{task.name}.max{max_clips}"
    write_part(task, target, kept, f"at most {max_clips} clips of each split")
    return target


def whole_task(directory: Path) -> Task:
    """Load a task of which a part is to be taken; DataError where its clips are judged together."""
    task = load_task(directory)
    together = KINDS[task.prediction_type].relations
    if any(name.endswith(".csv") for name in together):
        raise DataError(
            f"task {task.name} cannot be limited: its clips are judged together "
            f"({', '.join(together)}); leave it out with --task"
        )
    return task


def write_part(task: Task, target: Path, kept: Mapping[str, Collection[str]], limited: str) -> None:
    """Write the clips `kept` of each split as the task `target`; audio is linked, not copied.

    `limited` says which part it is: records and reports carry it. Raises DataError where the
    folder cannot be written.
    """
    try:
        _write(task.directory.resolve(), target, kept, limited)
    except OSError as error:
        raise DataError(
            f"cannot write {target}: {error.strerror or error}; choose another --out"
        ) from error


def _write(
    directory: Path, target: Path, kept: Mapping[str, Collection[str]], limited: str
) -> None:
    metadata = read_json(directory / METADATA)
    target.mkdir(parents=True, exist_ok=True)
    for path in directory.iterdir():
        if path.is_file() and path.name != METADATA and path.stem not in kept:
            shutil.copyfile(path, target / path.name)
    named: set[str] = set()
    for split, names in kept.items():
        labels = {n: v for n, v in read_json(directory / f"{split}.json").items() if n in names}
        write_json(target / f"{split}.json", labels)
        named |= {key for name in names for key in (name, f"{split}/{name}")}
        _link_audio(directory, target, split, {Path(name).stem for name in names})
    _cut_clusters(metadata, target, named)
    if (directory / SOURCES).is_file() and metadata.get("audio_root") is not None:
        metadata["audio_root"] = str((directory / str(metadata["audio_root"])).resolve())
    write_json(target / METADATA, {**metadata, "limited": limited})


def _cut_clusters(metadata: dict[str, Any], target: Path, named: set[str]) -> None:
    """Keep the clusters of the chosen clips, in the metadata or in the file that they name."""
    clusters = metadata.get("clusters")
    if isinstance(clusters, dict):
        metadata["clusters"] = {k: v for k, v in clusters.items() if k in named}
    elif isinstance(clusters, str):
        whole = read_json(target / clusters)
        write_json(target / clusters, {k: v for k, v in whole.items() if k in named})


def _link_audio(directory: Path, target: Path, split: str, stems: set[str]) -> None:
    """Link the audio of the clips `stems` at every sample rate."""
    for folder in (p / split for p in directory.iterdir() if p.is_dir() and p.name.isdigit()):
        if not folder.is_dir():
            continue
        place = target / folder.parent.name / split
        place.mkdir(parents=True, exist_ok=True)
        for file in folder.iterdir():
            if file.stem in stems and not (place / file.name).exists():
                (place / file.name).symlink_to(file)


def _chosen(clips: dict[str, Any], max_clips: int) -> set[str]:
    """Return the names of `max_clips` clips, the labels in turn."""
    ordered = sorted(clips, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    turn: dict[str, int] = {}
    place = {}
    for name in ordered:
        label = json.dumps(clips[name], sort_keys=True)
        if clips[name] and isinstance(clips[name][0], dict):
            label = ""  # events: every clip is its own
        place[name] = turn[label] = turn.get(label, -1) + 1
    return set(sorted(ordered, key=lambda name: place[name])[:max_clips])
