"""Labelled clips for the training of encoders, from whatever form the user has them in.

--data takes, in any mixture: a task directory in HEAR's layout; a folder with AST's lists
(train.json, valid.json, test.json, labels.csv, train_weight.csv; folds as fold1/, fold2/, ...); a
folder of audio (pretraining only); and KEY=PATH with KEY one of train, valid, test, labels,
weights, audio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mambabench.benchmarks.layout.read import load_task
from mambabench.benchmarks.task import clip_path, folds
from mambabench.errors import DataError, nearest_names
from mambabench.train.clips import Labels, TrainingClip, read_clips, read_labels_csv, weights_file
from mambabench.train.encoder_settings import EncoderSettings
from mambabench.train.orders import stream

if TYPE_CHECKING:
    from mambabench.benchmarks.task import Task

__all__ = [
    "AUDIO",
    "ClipData",
    "ClipFold",
    "check_classes",
    "open_clips",
    "parse_data",
    "selection_split",
]

AUDIO = (".wav", ".flac", ".ogg", ".mp3")
KEYS = ("train", "valid", "test", "labels", "weights", "audio")
_NAMES = {
    "train": ("train.json", "train_data.json"),
    "valid": ("valid.json", "valid_data.json"),
    "test": ("test.json", "eval.json", "eval_data.json", "test_data.json"),
    "labels": ("labels.csv", "class_labels_indices.csv"),
}


@dataclass(frozen=True)
class ClipFold:
    """The clips of one training; `test` is never read by a sound training."""

    name: str  # "" where there is only one
    train: tuple[TrainingClip, ...]
    valid: tuple[TrainingClip, ...] = ()
    test: tuple[TrainingClip, ...] = ()
    weights: Path | None = None  # of the training clips, checked when read


@dataclass(frozen=True)
class ClipData:
    """All folds and the classes."""

    labels: tuple[str, ...]
    folds: tuple[ClipFold, ...]
    notes: tuple[str, ...] = ()
    restricted: bool = False
    task: Task | None = None  # where the data were a task directory


def parse_data(values: Sequence[str]) -> dict[str, list[Path]]:
    """Return role -> paths; "" holds what came without KEY=. DataError for a wrong one."""
    found: dict[str, list[Path]] = {}
    for value in values:
        key, equals, path = value.partition("=")
        if not equals or Path(value).exists():
            key, path = "", value
        elif key not in KEYS:
            raise DataError(
                f"--data {value}: no key {key!r}{nearest_names(key, KEYS)}; keys: {', '.join(KEYS)}"
            )
        if not Path(path).exists():
            raise DataError(f"--data {value}: {path} does not exist")
        found.setdefault(key, []).append(Path(path))
    if not found:
        raise DataError("no data: give --data PATH (docs/training.md says which forms there are)")
    return found


def open_clips(values: Sequence[str], settings: EncoderSettings) -> ClipData:
    """Read the lists behind --data; audio is not opened."""
    roles = parse_data(values)
    labelled = settings.objective == "classify"
    plain = roles.pop("", [])
    if len(plain) == 1 and (plain[0] / "task_metadata.json").is_file():
        return _of_task(plain[0])
    below = [_roles_of(folder, labelled) for folder in plain]
    folds = [folder for folder in plain for folder in sorted(folder.glob("fold*"))]
    if folds and labelled:
        labels = _labels(_merged([roles, *below]))
        return ClipData(
            labels.names,
            tuple(
                _fold(f.name, _merged([_roles_of(f, True)]), labels) for f in folds if f.is_dir()
            ),
        )
    merged = _merged([roles, *below])
    found = _labels(merged) if labelled else None
    fold = _fold("", merged, found)
    return ClipData(found.names if found else (), (fold,))


def _roles_of(folder: Path, labelled: bool) -> dict[str, list[Path]]:
    """Return what a folder holds by its names; audio files where it has no lists."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give single files as KEY=PATH")
    found = {
        role: [folder / name for name in names if (folder / name).is_file()][:1]
        for role, names in _NAMES.items()
    }
    found = {role: paths for role, paths in found.items() if paths}
    if "train" in found or labelled or any(folder.glob("fold*")):
        return found
    return {**found, "audio": [folder]}


def _merged(parts: Sequence[Mapping[str, list[Path]]]) -> dict[str, list[Path]]:
    merged: dict[str, list[Path]] = {}
    for part in parts:
        for role, paths in part.items():
            merged.setdefault(role, []).extend(paths)
    return merged


def _labels(roles: Mapping[str, list[Path]]) -> Labels:
    if len(roles.get("labels", [])) != 1:
        raise DataError(
            "the label CSV (index,mid,display_name) is missing: put labels.csv beside the lists or "
            "give --data labels=PATH"
        )
    return read_labels_csv(roles["labels"][0])


def _fold(name: str, roles: Mapping[str, list[Path]], labels: Labels | None) -> ClipFold:
    def clips(role: str) -> tuple[TrainingClip, ...]:
        listed = [clip for path in roles.get(role, []) for clip in read_clips(path, labels)]
        return tuple(listed)

    train = clips("train")
    if labels is None:
        train += tuple(
            TrainingClip(path, ()) for folder in roles.get("audio", []) for path in _audio(folder)
        )
    if not train:
        raise DataError(
            "no training clips: put train.json into the data folder, or give --data train=PATH"
        )
    weights = roles.get("weights", [])
    if not weights and len(roles.get("train", [])) == 1:
        beside = weights_file(roles["train"][0])
        weights = [beside] if beside.is_file() else []
    return ClipFold(name, train, clips("valid"), clips("test"), weights[0] if weights else None)


def _audio(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in AUDIO)
    if not found:
        raise DataError(f"{folder} holds no audio ({', '.join(AUDIO)})")
    return found


def _of_task(directory: Path) -> ClipData:
    """Return the folds of a task directory; its valid split selects, its test split tests."""

    task = load_task(directory)
    if task.embedding_type != "scene" or task.prediction_type not in ("multiclass", "multilabel"):
        raise DataError(
            f"{directory} is a {task.embedding_type} task with {task.prediction_type} answers; a "
            "classifier needs labels per clip"
        )
    if not task.sample_rates_hz:
        raise DataError(f"{directory} has no audio folder")
    rate = 16000 if 16000 in task.sample_rates_hz else max(task.sample_rates_hz)
    ids = {label: i for i, label in enumerate(task.labels)}

    def clips(splits: Sequence[str]) -> tuple[TrainingClip, ...]:
        return tuple(
            TrainingClip(
                clip_path(task, rate, split, c.name), tuple(ids[label] for label in c.labels)
            )
            for split in splits
            for c in task.clips[split]
        )

    found = folds(task)
    return ClipData(
        task.labels,
        tuple(
            ClipFold(
                "" if len(found) == 1 else f.test,
                clips(f.train),
                clips((f.valid,)),
                clips((f.test,)),
            )
            for f in found
        ),
        task.notes,
        task.restricted,
        task,
    )


def selection_split(
    fold: ClipFold, settings: EncoderSettings, n_folds: int = 1
) -> tuple[ClipFold, str]:
    """Return the fold with the clips that select in `valid`, and what they are.

    sound: the given validation clips, or a share of the training clips drawn once. published: the
    TEST clips, as the authors do, except where a validation list is given; with folds the
    validation fold trains, too.
    """
    if settings.mode == "published":
        if fold.valid and n_folds == 1:
            return fold, "validation clips"
        if not fold.test:
            raise DataError("mode published selects on the test clips: give --data test=PATH")
        return replace(fold, train=fold.train + fold.valid, valid=fold.test), "test clips ‡"
    if fold.valid:
        return fold, "validation clips"
    n = round(len(fold.train) * settings.held_out)
    if not 0 < n < len(fold.train):
        raise DataError(
            f"{len(fold.train)} training clips and held_out = {settings.held_out:g} leave nothing "
            "to select on, or to train on; give --data valid=PATH"
        )
    order = stream(0, "held out").permutation(len(fold.train))
    held = set(order[:n].tolist())
    train = tuple(c for i, c in enumerate(fold.train) if i not in held)
    valid = tuple(c for i, c in enumerate(fold.train) if i in held)
    weights = None  # of another list now: computed anew
    return (
        replace(fold, train=train, valid=valid, weights=weights),
        f"{n} clips held out of training",
    )


def check_classes(fold: ClipFold, labels: Sequence[str]) -> None:
    """Raise DataError for classes without a training clip."""
    counts = np.zeros(len(labels), np.int64)
    for clip in fold.train:
        np.add.at(counts, list(clip.labels), 1)
        np.add.at(counts, list(clip.seconds), 1)
    empty = [labels[int(i)] for i in np.flatnonzero(counts == 0)]
    if empty:
        shown = ", ".join(repr(name) for name in empty[:5])
        raise DataError(
            f"{len(empty)} of {len(labels)} classes have no training clip ({shown}"
            f"{', ...' if len(empty) > 5 else ''}): take them out of the label CSV, add clips, or "
            "accept them with --set allow_empty=true"
        )
