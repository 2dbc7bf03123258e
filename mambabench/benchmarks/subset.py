"""A few clips of each split of a task, for a quick look: a task of its own, never the full one."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from mambabench.benchmarks.layout.metadata import METADATA
from mambabench.errors import DataError
from mambabench.files import read_json, write_json

__all__ = ["cut_clusters", "link_audio", "subset_task"]


def subset_task(directory: Path, below: Path, max_clips: int) -> Path:
    """Write the task of at most `max_clips` clips a split below `below` and return its folder.

    It is called ``TASK.max<N>`` and carries a note, so that no result of it passes for the full
    task's. Labels come in turn, within a label clips in the order of a hash of their names: the
    choice is the same everywhere, and one of fewer clips is part of one of more. Audio is linked,
    not copied. The same call again writes the same. Raises DataError where there are no splits.
    """
    if max_clips < 1:
        raise DataError(f"max_clips = {max_clips}: keep at least one clip a split")
    directory = directory.resolve()
    metadata = read_json(directory / METADATA)
    target = below / f"{directory.name}.max{max_clips}"
    target.mkdir(parents=True, exist_ok=True)
    files = sorted(p for p in directory.iterdir() if p.is_file() and p.name != METADATA)
    clusters = metadata.get("clusters")
    splits = [p for p in files if p.suffix == ".json" and p.name != clusters and _is_split(p)]
    if not splits:
        raise DataError(f"{directory} has no split files: give a task directory in HEAR's layout")
    named: set[str] = set()
    for path in files:
        if path in splits:
            kept = _chosen(read_json(path), max_clips)
            write_json(target / path.name, kept)
            named |= {key for name in kept for key in (name, f"{path.stem}/{name}")}
            link_audio(directory, target, path.stem, {Path(name).stem for name in kept})
        else:
            shutil.copyfile(path, target / path.name)
    note = f"at most {max_clips} clips a split of {directory.name}: a quick look, not its score"
    cut_clusters(metadata, target, named)
    write_json(target / METADATA, {**metadata, "notes": [*metadata.get("notes", []), note]})
    return target


def cut_clusters(metadata: dict[str, Any], target: Path, named: set[str]) -> None:
    """Keep the clusters of the chosen clips, in the metadata or in the file that they name."""
    clusters = metadata.get("clusters")
    if isinstance(clusters, dict):
        metadata["clusters"] = {k: v for k, v in clusters.items() if k in named}
    elif isinstance(clusters, str):
        whole = read_json(target / clusters)
        write_json(target / clusters, {k: v for k, v in whole.items() if k in named})


def link_audio(directory: Path, target: Path, split: str, stems: set[str]) -> None:
    """Link the audio of the clips `stems` at every sample rate."""
    for folder in (p / split for p in directory.iterdir() if p.is_dir() and p.name.isdigit()):
        if not folder.is_dir():
            continue
        place = target / folder.parent.name / split
        place.mkdir(parents=True, exist_ok=True)
        for file in folder.iterdir():
            if file.stem in stems and not (place / file.name).exists():
                (place / file.name).symlink_to(file)


def _is_split(path: Path) -> bool:
    value = read_json(path)
    return isinstance(value, dict) and all(isinstance(v, list) for v in value.values())


def _chosen(clips: dict[str, Any], max_clips: int) -> dict[str, Any]:
    """Keep `max_clips` clips, the labels in turn, in the order that they have."""
    ordered = sorted(clips, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    turn: dict[str, int] = {}
    place = {}
    for name in ordered:
        label = json.dumps(clips[name], sort_keys=True)
        if clips[name] and isinstance(clips[name][0], dict):
            label = ""  # events: every clip is its own
        place[name] = turn[label] = turn.get(label, -1) + 1
    kept = set(sorted(ordered, key=lambda name: place[name])[:max_clips])
    return {name: labels for name, labels in clips.items() if name in kept}
