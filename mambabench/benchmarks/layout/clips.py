"""Read the splits of a task directory, and the clusters and sources of their clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from mambabench.benchmarks.kinds import KINDS
from mambabench.benchmarks.layout.json_values import (
    Json,
    is_label,
    is_number,
    is_plain,
    read_object,
    some,
)
from mambabench.benchmarks.task import AudioSource, Clip, Defect, Event, Task
from mambabench.errors import DataError, nearest_names
from mambabench.reading.tables import TableRow, read_table
from mambabench.reading.text import same_name

__all__ = [
    "SOURCES",
    "SOURCE_COLUMNS",
    "read_clusters",
    "read_split",
    "with_clusters",
    "with_sources",
]

_METADATA = "task_metadata.json"
SOURCES = "sources.csv"  # of tasks that point into a corpus of the user's own
SOURCE_COLUMNS = (
    "split",
    "clip",
    "path",
    "start_s",
    "duration_s",
    "gain_db",
    "trim_silence",
    "crop_of",
)


def read_split(
    task: Task, split: str, labels: tuple[str, ...], defects: list[Defect]
) -> tuple[Clip, ...]:
    """Return the clips of a split, and record every defect of its file."""
    name = f"{split}.json"
    entries = read_object(task.directory, name, "every split has its labels in one", defects)
    if entries is None:
        return ()
    if not entries:
        defects.append(Defect(name, "names no clip", f"fill or remove the empty split {split!r}"))
    defects += [Defect(name, *fault) for fault in _clashes(entries)]
    clips = []
    unknown: dict[str, list[str]] = {}
    for clip_name, value in entries.items():
        if not is_plain(clip_name):
            problem = f"clip {clip_name!r} is not a plain file name"
            defects.append(Defect(name, problem, "name files of the split's own audio folder"))
            continue
        read = _scene_clip if task.embedding_type == "scene" else _event_clip
        clip = read(task, clip_name, value, lambda p, r: defects.append(Defect(name, p, r)))
        if clip is None:
            continue
        clips.append(clip)
        for label in {*clip.labels, *(event.label for event in clip.events)} - set(labels):
            unknown.setdefault(label, []).append(clip_name)
    for label, names in sorted(unknown.items()) if labels else ():
        problem = f"label {label!r} of {some(names)} is not in labelvocabulary.csv"
        near = nearest_names(label, labels)
        defects.append(Defect(name, f"{problem}{near}", "correct it or add a row"))
    return tuple(clips)


def _clashes(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield (problem, remedy) for names of one split that Unicode holds for the same."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(same_name(name), name)
        if other != name:
            yield f"clips {other!r} and {name!r} look the same", "keep one, or rename one of them"


def _scene_clip(
    task: Task, name: str, value: object, wrong: Callable[[str, str], None]
) -> Clip | None:
    if not isinstance(value, list) or not all(is_label(v) for v in value):
        wrong(f"clip {name!r} is labelled {value!r}", "give a list of labels (text or integers)")
        return None
    labels = tuple(same_name(str(v)) for v in value)
    if (fault := KINDS[task.prediction_type].labels_fault(name, labels)) is not None:
        wrong(*fault)
        return None
    return Clip(name, labels=labels)


def _event_clip(
    task: Task, name: str, value: object, wrong: Callable[[str, str], None]
) -> Clip | None:
    if not isinstance(value, list):
        wrong(f"clip {name!r} has no list of events", "give a list, empty where nothing sounds")
        return None
    events = []
    for item in value:
        event = _event(item)
        if event is None:
            wrong(
                f"clip {name!r} has the event {item!r}",
                "give label, start and end in milliseconds with 0 <= start <= end",
            )
            return None
        events.append(event)
    return Clip(name, events=tuple(events))


def _event(item: object) -> Event | None:
    if not isinstance(item, dict) or not is_label(item.get("label")):
        return None
    start, end = item.get("start"), item.get("end")
    if not (is_number(start) and is_number(end)):
        return None
    start, end = cast(float, start), cast(float, end)
    return (
        Event(same_name(str(item["label"])), float(start), float(end))
        if 0 <= start <= end
        else None
    )


def read_clusters(
    directory: Path, metadata: Json, defects: list[Defect]
) -> Mapping[str, str] | None:
    """Return the cluster of each key, from the metadata or the file that they name; or None."""
    value = metadata.get("clusters")
    if value is None:
        return None
    name = _METADATA
    if isinstance(value, str) and is_plain(value):
        name = value
        value = read_object(directory, value, "task_metadata.json names it as `clusters`", defects)
        if value is None:
            return None
    if not isinstance(value, dict) or not all(is_label(v) for v in value.values()):
        remedy = "map clips to clusters, or name a JSON file of this directory that does"
        defects.append(Defect(name, f"clusters is {type(value).__name__}", remedy))
        return None
    return {clip: str(cluster) for clip, cluster in value.items()}


def with_clusters(
    clips: Mapping[str, tuple[Clip, ...]], clusters: Mapping[str, str], defects: list[Defect]
) -> dict[str, tuple[Clip, ...]]:
    """Give each clip the cluster of its key "<split>/<clip>", else of "<clip>"."""
    known = {f"{split}/{clip.name}" for split in clips for clip in clips[split]}
    known |= {clip.name for split in clips for clip in clips[split]}
    strangers = [key for key in clusters if key not in known]
    if strangers:
        problem = f"clusters names {some(strangers)}, in no split"
        defects.append(Defect(_METADATA, problem, "use clip names, or <split>/<clip>"))
    return {
        split: tuple(
            replace(c, cluster=clusters.get(f"{split}/{c.name}", clusters.get(c.name)))
            for c in clips[split]
        )
        for split in clips
    }


def with_sources(
    directory: Path,
    root: object,
    clips: Mapping[str, tuple[Clip, ...]],
    defects: list[Defect],
) -> dict[str, tuple[Clip, ...]]:
    """Give each clip the source that SOURCES names for it; `root` may be relative to the task."""
    remedy = "prepare the task again from its corpus"
    if not (directory / SOURCES).is_file():
        defects.append(
            Defect(SOURCES, "is missing, but task_metadata.json has an audio_root", remedy)
        )
        return dict(clips)
    base = directory / str(root)
    try:
        rows = read_table(directory / SOURCES, SOURCE_COLUMNS[:-1], strip=False)
        found = {(row["split"], row["clip"]): _source(base, row) for row in rows}
    except DataError as error:
        defects.append(Defect(SOURCES, f"cannot be read ({error})", remedy))
        return dict(clips)
    absent = [f"{s}/{c.name}" for s in clips for c in clips[s] if (s, c.name) not in found]
    if absent:
        defects.append(Defect(SOURCES, f"has no row for {some(absent)}", remedy))
    return {
        split: tuple(replace(clip, source=found.get((split, clip.name))) for clip in clips[split])
        for split in clips
    }


def _source(base: Path, row: TableRow) -> AudioSource:
    return AudioSource(
        base / row["path"],
        row.number("start_s", low=0.0),
        row.optional_number("duration_s", low=0.0),
        row.number("gain_db"),
        row["trim_silence"] == "1",
        row.get("crop_of") or None,
    )
