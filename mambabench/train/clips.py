"""Lists of labelled clips in AST's form: a JSON of files, a CSV of classes, a CSV of weights."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.errors import DataError, nearest_names
from mambabench.files import sha256_file, write_bytes
from mambabench.reading.tables import read_table

__all__ = [
    "Labels",
    "TrainingClip",
    "clip_weights",
    "read_clips",
    "read_labels_csv",
    "read_weights",
    "weights_file",
    "write_clips",
    "write_weights",
]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TrainingClip:
    """One audio file and its classes."""

    path: Path
    labels: tuple[int, ...]  # class ids; several for a tagged clip
    seconds: tuple[int, ...] = ()  # class id of every second, where labelled so


@dataclass(frozen=True)
class Labels:
    """The classes of a label CSV, in its order."""

    ids: Mapping[str, int]  # mid -> class id
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


def read_labels_csv(path: Path) -> Labels:
    """Read a CSV with the columns index, mid, display_name."""
    rows = read_table(path, ("index", "mid", "display_name"), remedy="give a CSV of the classes")
    if not rows:
        raise DataError(f"{path} lists no classes")
    ids: dict[str, int] = {}
    for number, row in enumerate(rows, start=2):
        text = row["index"]
        if not text.isdecimal() or len(text) > 9 or int(text) >= len(rows):
            raise DataError(
                f"{path}:{number}: index is {row['index']!r}, not one of 0 to {len(rows) - 1}"
            )
        if row["mid"] in ids:
            raise DataError(f"{path}:{number}: mid {row['mid']} appears twice")
        ids[row["mid"]] = int(row["index"])
    if len(set(ids.values())) < len(rows):
        raise DataError(f"{path}: an index appears twice")
    names = {int(row["index"]): row["display_name"] for row in rows}
    return Labels(ids, tuple(names[i] for i in range(len(rows))))


def read_clips(path: Path, labels: Labels | None, root: Path | None = None) -> list[TrainingClip]:
    """Read {"data": [{"wav": ..., "labels": "mid,mid"}, ...]}, or "seconds": "0,0,3" for "labels".

    Relative files lie below `root`, by default beside the JSON. Without `labels` classes are not
    looked up. DataError names the entry that lacks a wav or has a label the CSV does not know.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the list {path}: {error}") from error
    entries = document.get("data") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise DataError(f'{path} has no list of clips under "data"')
    folder = root if root is not None else path.parent
    clips = []
    for number, entry in enumerate(entries):
        where = f'{path}: entry {number} of "data"'
        if not isinstance(entry, dict) or not isinstance(entry.get("wav"), str):
            raise DataError(f'{where} has no "wav": {json.dumps(entry)[:120]}')
        seconds = tuple(_seconds(entry.get("seconds"), labels, where))
        mids = str(entry.get("labels", "")).split(",")
        ids = () if seconds else _class_ids(mids, labels, where)
        clips.append(TrainingClip(folder / entry["wav"], ids, seconds))
    return clips


def _seconds(value: Any, labels: Labels | None, where: str) -> list[int]:
    """Return the class ids of "3,3,0,...", one per second; none where there is no such entry."""
    if value is None or labels is None:
        return []
    try:
        ids = [int(part) for part in str(value).split(",")]
    except ValueError as error:
        raise DataError(f'{where}: "seconds" is no list of class ids: {value!r}') from error
    wrong = [i for i in ids if not 0 <= i < len(labels)]
    if wrong:
        raise DataError(f'{where}: "seconds" has the class {wrong[0]} of {len(labels)}')
    return ids


def _class_ids(mids: Sequence[str], labels: Labels | None, where: str) -> tuple[int, ...]:
    if labels is None:
        return ()
    out = []
    for mid in mids:
        if mid not in labels.ids:
            raise DataError(
                f"{where}: label {mid!r} is not in the label CSV{nearest_names(mid, labels.ids)}"
            )
        out.append(labels.ids[mid])
    return tuple(out)


def write_clips(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    """Write (wav, labels) as AST's JSON."""
    data = [{"wav": wav, "labels": labels} for wav, labels in rows]
    write_bytes(path, json.dumps({"data": data}, indent=1).encode())


def clip_weights(clips: Sequence[TrainingClip], n_classes: int) -> Array:
    """Return each clip's weight: the sum over its labels of 1000 / (clips of the label + 0.01)."""
    counts = np.zeros(n_classes)
    for clip in clips:
        np.add.at(counts, list(clip.labels), 1)
    per_class = 1000.0 / (counts + 0.01)
    weights = np.zeros(len(clips))
    for i, clip in enumerate(clips):
        for label in clip.labels:  # summed one by one, as the authors do
            weights[i] += per_class[label]
    return weights


def weights_file(path: Path) -> Path:
    """Return where the weights of a list of clips lie."""
    return path.with_name(path.name.removesuffix(".json") + "_weight.csv")


def write_weights(path: Path, weights: Array) -> None:
    """Write one number per line, as numpy's savetxt does."""
    write_bytes(path, "".join(f"{w:.18e}\n" for w in weights).encode())


def read_weights(path: Path, clips: Sequence[TrainingClip], n_classes: int) -> Array:
    """Read the weights of `clips` and check them against the list.

    A weight file of another list costs much precision and goes unnoticed: DataError where the
    number of lines or a value is not that of these clips.
    """
    try:
        weights = np.loadtxt(path, ndmin=1)
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read the weights {path} ({error}); remove it and they are computed"
        ) from error
    if len(weights) != len(clips):
        raise DataError(
            f"{path} (SHA-256 {sha256_file(path)[:12]}) has {len(weights)} weights for "
            f"{len(clips)} clips: it belongs to another list; remove it and it is computed"
        )
    wrong = np.flatnonzero(~np.isclose(weights, clip_weights(clips, n_classes), rtol=1e-6))
    if len(wrong):
        raise DataError(
            f"{path}: line {wrong[0] + 1} is not the weight of {clips[wrong[0]].path}: the file "
            "belongs to another list; remove it and it is computed"
        )
    return weights
