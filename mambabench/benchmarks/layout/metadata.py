"""From a task's metadata to a Task, with every defect of its fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast, get_args

from mambabench.benchmarks.kinds import KINDS
from mambabench.benchmarks.layout.json_values import Json, is_number, is_plain
from mambabench.benchmarks.metrics import METRICS
from mambabench.benchmarks.task import (
    Defect,
    EmbeddingType,
    Pooling,
    SplitMode,
    Task,
)
from mambabench.errors import nearest_names

__all__ = ["METADATA", "task_of_metadata"]

METADATA = "task_metadata.json"


def task_of_metadata(
    name: str, directory: Path, metadata: Json, defects: list[Defect]
) -> Task | None:
    """Return the task without its labels and clips; None, with defects, where a field is wrong."""
    before = len(defects)

    def wrong(field: str, problem: str, remedy: str) -> None:
        defects.append(Defect(METADATA, f"{field} {problem}", remedy))

    embedding_type = _choice(metadata, "embedding_type", get_args(EmbeddingType), wrong)
    prediction_type = _choice(metadata, "prediction_type", tuple(KINDS), wrong)
    split_mode = _choice(metadata, "split_mode", get_args(SplitMode), wrong)
    own = prediction_type in KINDS and KINDS[prediction_type].own_metrics
    duration = metadata.get("sample_duration")
    if duration is not None and not (is_number(duration) and duration > 0):
        wrong("sample_duration", f"is {duration!r}", "give seconds, or null where clips differ")
    task = Task(
        name=name,
        directory=directory,
        embedding_type=cast(EmbeddingType, embedding_type),
        prediction_type=prediction_type,
        split_mode=cast(SplitMode, split_mode),
        splits=_splits(metadata, split_mode, wrong),
        sample_duration_s=duration,
        evaluation=_evaluation(metadata, prediction_type if own else embedding_type, wrong),
        labels=(),
        clips={},
        sample_rates_hz=_sample_rates(directory),
        **_optional_fields(metadata, wrong),
        **_evaluation_params(metadata, wrong),
    )
    if len(defects) > before:
        return None
    return replace(task, sample_duration_s=None if duration is None else float(duration))


_Wrong = Callable[[str, str, str], None]


def _choice(metadata: Json, field: str, known: tuple[str, ...], wrong: _Wrong) -> str:
    value = metadata.get(field)
    if value not in known:
        near = nearest_names(str(value), known)
        wrong(field, f"is {value!r}{near}", f"set it to one of {', '.join(known)}")
    return str(value)


def _optional_fields(metadata: Json, wrong: _Wrong) -> Json:
    """Return the Task fields that HEAR's metadata may lack."""
    fields: Json = {}
    for field in ("use_scoring_for_early_stopping", "restricted"):
        fields[field] = metadata.get(field, field != "restricted")
        if not isinstance(fields[field], bool):
            wrong(field, f"is {fields[field]!r}", "set it to true or false")
    fields["protocol"] = metadata.get("protocol")
    if not isinstance(fields["protocol"], str | None):
        wrong("protocol", f"is {fields['protocol']!r}", "give the name of a protocol")
    for field, known in (("pooling", get_args(Pooling)), ("layers", ("last", "all"))):
        present = field in metadata
        fields[field] = _choice(metadata, field, known, wrong) if present else known[0]
    fields["limited"] = metadata.get("limited", "")
    if not isinstance(fields["limited"], str):
        wrong(
            "limited", f"is {fields['limited']!r}", "say which part of a task this is, or nothing"
        )
        fields["limited"] = ""
    notes = metadata.get("notes", [])
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        wrong("notes", f"is {notes!r}", "list sentences")
        notes = []
    fields["notes"] = tuple(notes)
    return fields


def _splits(metadata: Json, split_mode: str, wrong: _Wrong) -> tuple[str, ...]:
    splits = metadata.get("splits")
    if (
        not isinstance(splits, list)
        or not splits
        or not all(isinstance(s, str) and is_plain(s) for s in splits)
        or len(set(splits)) < len(splits)
    ):
        wrong("splits", f"is {splits!r}", "list the names of the splits, each once")
        return ()
    kind = KINDS.get(str(metadata.get("prediction_type")))
    free = kind is not None and kind.any_splits  # they validate otherwise
    if split_mode == "trainvaltest" and not free and set(splits) != {"train", "valid", "test"}:
        wrong("splits", f"is {splits!r}", 'trainvaltest has "train", "valid" and "test"')
    if split_mode.endswith("kfold") and len(splits) < 3:
        wrong(
            "splits",
            f"has {len(splits)} folds",
            "cross-validation takes one fold to test, one to select and the rest to train: give 3",
        )
    return tuple(splits)


def _evaluation(metadata: Json, kind: str, wrong: _Wrong) -> tuple[str, ...]:
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


_POST = "event_postprocessing_grid"
_SPECIFIC = "task_specific_param_grid"


def _evaluation_params(metadata: Json, wrong: _Wrong) -> Json:
    """Return the Task fields that HEAR keeps in `evaluation_params`."""
    field = "evaluation_params"
    parameters = metadata.get(field) or {}
    if not isinstance(parameters, dict):
        wrong(field, f"is {parameters!r}", "give an object")
        return {}
    grids: dict[str, Json] = {_POST: {}, _SPECIFIC: {}}
    for key, value in parameters.items():
        if key not in grids:
            wrong(field, f"has no part named {key!r}{nearest_names(key, grids)}", "remove it")
        elif not isinstance(value, dict) or not all(isinstance(v, list) for v in value.values()):
            wrong(f"{field}.{key}", f"is {value!r}", "give an object of lists")
        else:
            grids[key] = value
    fields: Json = {_SPECIFIC: tuple((k, tuple(v)) for k, v in grids[_SPECIFIC].items())}
    names = {"median_filter_ms": "median_filter_ms", "min_duration": "min_duration_ms"}
    for key, values in grids[_POST].items():
        if key not in names:
            near = nearest_names(key, names)
            wrong(f"{field}.{_POST}", f"has no part named {key!r}{near}", "remove it")
        elif not values or not all(is_number(v) and v >= 0 for v in values):
            wrong(f"{field}.{_POST}.{key}", f"is {values!r}", "list milliseconds")
        else:
            fields[names[key]] = tuple(float(v) for v in values)
    return fields


def _sample_rates(directory: Path) -> tuple[int, ...]:
    folders = (p.name for p in directory.iterdir() if p.is_dir())
    return tuple(sorted(int(n) for n in folders if n.isascii() and n.isdigit()))
