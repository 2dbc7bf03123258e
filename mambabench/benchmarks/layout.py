"""Read a task directory in HEAR's layout and collect every defect of its text files."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

from mambabench.benchmarks.task import (
    Clip,
    Defect,
    EmbeddingType,
    Event,
    Pooling,
    PredictionType,
    Source,
    SplitMode,
    Task,
)
from mambabench.errors import nearest_names

__all__ = ["METADATA", "SOURCES", "SOURCE_COLUMNS", "VOCABULARY", "read_task"]

METADATA = "task_metadata.json"
VOCABULARY = "labelvocabulary.csv"
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
_Json = dict[str, Any]


def read_task(directory: Path, name: str | None = None) -> tuple[Task | None, list[Defect]]:
    """Return the task as far as it can be read, and every defect of its text files.

    None comes back, with at least one defect, where the metadata are unusable.
    """
    defects: list[Defect] = []
    metadata = _read_metadata(directory, defects)
    if metadata is None:
        return None, defects
    task = _task_of_metadata(name or directory.resolve().name, directory, metadata, defects)
    if task is None:
        return None, defects
    labels = _read_vocabulary(directory, defects)
    clips = {split: _read_split(task, split, labels, defects) for split in task.splits}
    clusters = _read_clusters(directory, metadata, defects)
    if clusters:
        clips = _with_clusters(clips, clusters, defects)
    if metadata.get("audio_root") is not None:
        clips = _with_sources(directory, metadata["audio_root"], clips, defects)
    return replace(task, labels=labels, clips=clips), defects


def _read_metadata(directory: Path, defects: list[Defect]) -> _Json | None:
    if not directory.is_dir():
        problem = "is not a directory" if directory.exists() else "does not exist"
        defects.append(Defect(METADATA, f"task directory {directory} {problem}", "fix the path"))
        return None
    remedy = "a task directory holds it, as hear-preprocess writes it"
    metadata = _read_object(directory, METADATA, remedy, defects)
    return None if metadata is None else metadata


def _read_object(directory: Path, name: str, remedy: str, defects: list[Defect]) -> _Json | None:
    """Return the JSON object of a file; a repeated key is a defect, not the last one's victory."""
    repeated: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> _Json:
        result = dict(items)
        if len(result) < len(items):
            keys = [key for key, _ in items]
            repeated.extend(sorted({key for key in keys if keys.count(key) > 1}))
        return result

    try:
        text = (directory / name).read_text(encoding="utf-8-sig")
        value = json.loads(text, object_pairs_hook=pairs)
    except FileNotFoundError:
        defects.append(Defect(name, "is missing", remedy))
        return None
    except (OSError, ValueError) as error:  # JSON and UTF-8 errors are ValueErrors
        defects.append(Defect(name, f"cannot be read ({error})", "restore or rewrite it"))
        return None
    for key in repeated:
        defects.append(Defect(name, f"key {key!r} stands twice", "keep one of the entries"))
    if not isinstance(value, dict):
        defects.append(Defect(name, "does not hold a JSON object", remedy))
        return None
    return value


def _task_of_metadata(
    name: str, directory: Path, metadata: _Json, defects: list[Defect]
) -> Task | None:
    before = len(defects)

    def wrong(field: str, problem: str, remedy: str) -> None:
        defects.append(Defect(METADATA, f"{field} {problem}", remedy))

    def choice(field: str, known: tuple[str, ...]) -> str:
        value = metadata.get(field)
        if value not in known:
            near = nearest_names(str(value), known)
            wrong(field, f"is {value!r}{near}", f"set it to one of {', '.join(known)}")
        return str(value)

    embedding_type = cast(EmbeddingType, choice("embedding_type", get_args(EmbeddingType)))
    prediction_type = cast(PredictionType, choice("prediction_type", get_args(PredictionType)))
    split_mode = cast(SplitMode, choice("split_mode", get_args(SplitMode)))
    splits = _splits(metadata, split_mode, wrong)
    own = prediction_type in ("slots", "sequence", "trials", "queries")
    evaluation = _evaluation(metadata, prediction_type if own else embedding_type, wrong)
    duration = metadata.get("sample_duration")
    if duration is not None and not (_is_number(duration) and duration > 0):
        wrong("sample_duration", f"is {duration!r}", "give seconds, or null where clips differ")
    flags = {}
    for field, default in (("use_scoring_for_early_stopping", True), ("restricted", False)):
        flags[field] = metadata.get(field, default)
        if not isinstance(flags[field], bool):
            wrong(field, f"is {flags[field]!r}", "set it to true or false")
    protocol = metadata.get("protocol")
    if protocol is not None and not isinstance(protocol, str):
        wrong("protocol", f"is {protocol!r}", "give the name of a protocol")
    stored = {}
    for field, known in (("pooling", get_args(Pooling)), ("layers", ("last", "all"))):
        stored[field] = choice(field, known) if field in metadata else known[0]
    notes = metadata.get("notes", [])
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        wrong("notes", f"is {notes!r}", "list sentences")
        notes = []
    parameters = _evaluation_params(metadata, wrong)
    if len(defects) > before:
        return None
    return Task(
        name=name,
        directory=directory,
        embedding_type=embedding_type,
        prediction_type=prediction_type,
        split_mode=split_mode,
        splits=splits,
        sample_duration_s=None if duration is None else float(duration),
        evaluation=evaluation,
        labels=(),
        clips={},
        sample_rates_hz=_sample_rates(directory),
        protocol=protocol,
        median_filter_ms=parameters[0],
        min_duration_ms=parameters[1],
        task_specific_param_grid=parameters[2],
        notes=tuple(notes),
        pooling=cast(Pooling, stored["pooling"]),
        layers=cast(Any, stored["layers"]),
        **flags,
    )


_Wrong = Callable[[str, str, str], None]


def _splits(metadata: _Json, split_mode: str, wrong: _Wrong) -> tuple[str, ...]:
    splits = metadata.get("splits")
    if (
        not isinstance(splits, list)
        or not splits
        or not all(isinstance(s, str) and _is_plain(s) for s in splits)
        or len(set(splits)) < len(splits)
    ):
        wrong("splits", f"is {splits!r}", "list the names of the splits, each once")
        return ()
    free = metadata.get("prediction_type") in ("trials", "queries")  # they validate otherwise
    if split_mode == "trainvaltest" and not free and set(splits) != {"train", "valid", "test"}:
        wrong("splits", f"is {splits!r}", 'trainvaltest has "train", "valid" and "test"')
    if split_mode.endswith("kfold") and len(splits) < 3:
        wrong(
            "splits",
            f"has {len(splits)} folds",
            "cross-validation takes one fold to test, one to select and the rest to train: give 3",
        )
    return tuple(splits)


def _evaluation(metadata: _Json, kind: str, wrong: _Wrong) -> tuple[str, ...]:
    from mambabench.benchmarks.metrics import METRICS

    names = metadata.get("evaluation")
    if not isinstance(names, list) or not names:
        wrong("evaluation", f"is {names!r}", "list the metrics, the primary one first")
        return ()
    for name in names:
        if not isinstance(name, str) or name not in METRICS:
            near = nearest_names(str(name), METRICS)
            wrong("evaluation", f"has no metric named {name!r}{near}", "name one of docs/tasks.md")
        elif METRICS[name].kind != kind and kind in {metric.kind for metric in METRICS.values()}:
            other = METRICS[name].kind
            wrong("evaluation", f"names {name!r}, for {other} tasks", f"use {kind} metrics")
    return tuple(str(name) for name in names)


_Grid = tuple[float, ...] | None


def _evaluation_params(
    metadata: _Json, wrong: _Wrong
) -> tuple[_Grid, _Grid, tuple[tuple[str, tuple[object, ...]], ...]]:
    parameters = metadata.get("evaluation_params") or {}
    field = "evaluation_params"
    if not isinstance(parameters, dict):
        wrong(field, f"is {parameters!r}", "give an object")
        return None, None, ()
    known = ("event_postprocessing_grid", "task_specific_param_grid")
    grids: dict[str, _Json] = {}
    for key, value in parameters.items():
        if key not in known:
            wrong(field, f"has no part named {key!r}{nearest_names(key, known)}", "remove it")
        elif not isinstance(value, dict) or not all(isinstance(v, list) for v in value.values()):
            wrong(f"{field}.{key}", f"is {value!r}", "give an object of lists")
        else:
            grids[key] = value
    post = grids.get(known[0], {})
    for key, values in post.items():
        if key not in ("median_filter_ms", "min_duration"):
            near = nearest_names(key, ("median_filter_ms", "min_duration"))
            wrong(f"{field}.{known[0]}", f"has no part named {key!r}{near}", "remove it")
        elif not values or not all(_is_number(v) and v >= 0 for v in values):
            wrong(f"{field}.{known[0]}.{key}", f"is {values!r}", "list milliseconds")
            return None, None, ()

    def milliseconds(key: str) -> _Grid:
        return tuple(float(v) for v in post[key]) if key in post else None

    specific = tuple((key, tuple(values)) for key, values in grids.get(known[1], {}).items())
    return milliseconds("median_filter_ms"), milliseconds("min_duration"), specific


def _sample_rates(directory: Path) -> tuple[int, ...]:
    folders = (p.name for p in directory.iterdir() if p.is_dir())
    return tuple(sorted(int(n) for n in folders if n.isascii() and n.isdigit()))


def _read_vocabulary(directory: Path, defects: list[Defect]) -> tuple[str, ...]:
    """Return the labels by index, as text: "NA", "null" and numbers stay what is written."""

    def wrong(problem: str, remedy: str) -> tuple[str, ...]:
        defects.append(Defect(VOCABULARY, problem, remedy))
        return ()

    try:
        with (directory / VOCABULARY).open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file, strict=True) if row]
    except FileNotFoundError:
        return wrong("is missing", "list the labels as rows of idx,label")
    except (OSError, ValueError, csv.Error) as error:
        return wrong(f"cannot be read ({error})", "restore or rewrite it")
    if not rows or rows[0] != ["idx", "label"]:
        return wrong("does not start with idx,label", "write that header")
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != 2:
            return wrong(f"row {line} has {len(row)} fields", "quote labels that contain commas")
    indices = [row[0].strip() for row in rows[1:]]
    if sorted(indices) != sorted(str(i) for i in range(len(indices))):
        return wrong("idx is not 0, 1, ... each once", "number the labels without gaps")
    labels = tuple(label for _, label in sorted((int(i), row[1]) for i, row in _zip(indices, rows)))
    repeated = sorted({label for label in labels if labels.count(label) > 1})
    if repeated:
        return wrong(f"label {repeated[0]!r} stands twice", "keep one row for each label")
    return labels if labels else wrong("has no labels", "list the labels as rows of idx,label")


def _zip(indices: list[str], rows: list[list[str]]) -> list[tuple[str, list[str]]]:
    return list(zip(indices, rows[1:], strict=True))


def _read_split(
    task: Task, split: str, labels: tuple[str, ...], defects: list[Defect]
) -> tuple[Clip, ...]:
    name = f"{split}.json"
    entries = _read_object(task.directory, name, "every split has its labels in one", defects)
    if entries is None:
        return ()
    if not entries:
        defects.append(Defect(name, "names no clip", f"fill or remove the empty split {split!r}"))
    clips = []
    unknown: dict[str, list[str]] = {}
    for clip_name, value in entries.items():
        if not _is_plain(clip_name):
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
        problem = f"label {label!r} of {_some(names)} is not in {VOCABULARY}"
        near = nearest_names(label, labels)
        defects.append(Defect(name, f"{problem}{near}", "correct it or add a row"))
    return tuple(clips)


def _scene_clip(
    task: Task, name: str, value: object, wrong: Callable[[str, str], None]
) -> Clip | None:
    if not isinstance(value, list) or not all(_is_label(v) for v in value):
        wrong(f"clip {name!r} is labelled {value!r}", "give a list of labels (text or integers)")
        return None
    labels = tuple(str(v) for v in value)
    if task.prediction_type == "multiclass" and len(labels) != 1:
        wrong(f"clip {name!r} has {len(labels)} labels", "multiclass tasks have exactly one")
        return None
    if task.prediction_type != "sequence" and len(set(labels)) < len(labels):
        wrong(f"clip {name!r} names a label twice", "name each label once")
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
    if not isinstance(item, dict) or not _is_label(item.get("label")):
        return None
    start, end = item.get("start"), item.get("end")
    if not (_is_number(start) and _is_number(end)):
        return None
    start, end = cast(float, start), cast(float, end)
    return Event(str(item["label"]), float(start), float(end)) if 0 <= start <= end else None


def _read_clusters(
    directory: Path, metadata: _Json, defects: list[Defect]
) -> Mapping[str, str] | None:
    value = metadata.get("clusters")
    if value is None:
        return None
    name = METADATA
    if isinstance(value, str) and _is_plain(value):
        name = value
        value = _read_object(directory, value, f"{METADATA} names it as `clusters`", defects)
        if value is None:
            return None
    if not isinstance(value, dict) or not all(_is_label(v) for v in value.values()):
        remedy = "map clips to clusters, or name a JSON file of this directory that does"
        defects.append(Defect(name, f"clusters is {type(value).__name__}", remedy))
        return None
    return {clip: str(cluster) for clip, cluster in value.items()}


def _with_clusters(
    clips: Mapping[str, tuple[Clip, ...]], clusters: Mapping[str, str], defects: list[Defect]
) -> dict[str, tuple[Clip, ...]]:
    """Give each clip the cluster of its key "<split>/<clip>", else of "<clip>"."""
    known = {f"{split}/{clip.name}" for split in clips for clip in clips[split]}
    known |= {clip.name for split in clips for clip in clips[split]}
    strangers = [key for key in clusters if key not in known]
    if strangers:
        problem = f"clusters names {_some(strangers)}, in no split"
        defects.append(Defect(METADATA, problem, "use clip names, or <split>/<clip>"))
    return {
        split: tuple(
            replace(c, cluster=clusters.get(f"{split}/{c.name}", clusters.get(c.name)))
            for c in clips[split]
        )
        for split in clips
    }


def _with_sources(
    directory: Path,
    root: object,
    clips: Mapping[str, tuple[Clip, ...]],
    defects: list[Defect],
) -> dict[str, tuple[Clip, ...]]:
    """Give each clip the source that SOURCES names for it; `root` may be relative to the task."""
    remedy = "prepare the task again from its corpus"
    try:
        with (directory / SOURCES).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
        base = directory / str(root)
        found = {(row["split"], row["clip"]): _source(base, row) for row in rows}
    except FileNotFoundError:
        defects.append(Defect(SOURCES, f"is missing, but {METADATA} has an audio_root", remedy))
        return dict(clips)
    except (OSError, ValueError, KeyError, csv.Error) as error:
        defects.append(Defect(SOURCES, f"cannot be read ({error!r})", remedy))
        return dict(clips)
    absent = [f"{s}/{c.name}" for s in clips for c in clips[s] if (s, c.name) not in found]
    if absent:
        defects.append(Defect(SOURCES, f"has no row for {_some(absent)}", remedy))
    return {
        split: tuple(replace(clip, source=found.get((split, clip.name))) for clip in clips[split])
        for split in clips
    }


def _source(base: Path, row: Mapping[str, str]) -> Source:
    return Source(
        base / row["path"],
        float(row["start_s"]),
        float(row["duration_s"]) if row["duration_s"] else None,
        float(row["gain_db"]),
        row["trim_silence"] == "1",
        row["crop_of"] or None,
    )


def _is_plain(name: str) -> bool:
    return bool(name) and name not in (".", "..") and not any(c in name for c in "/\\\0")


def _is_label(value: object) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(n) for n in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
