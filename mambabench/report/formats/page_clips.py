"""The page's clips: what every seed of every encoder made of each of them, as bytes that pack well.

Clips of a task stand in the order of their difficulty and a prediction as its distance from the
label (the first seed) or from the first seed (the others): nearly all are 0, and deflate does the
rest. The page undoes it (page_details.js, `clipsIn`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mambabench.errors import StoreError
from mambabench.report.runs import Group
from mambabench.store.records import read_predictions

__all__ = ["ClipBytes", "TaskClips", "clips_of", "estimated_bytes", "most_clips", "write_clips"]

Array = npt.NDArray[Any]
_CHUNK = 4096  # predictions of which the entropy is estimated together


@dataclass
class TaskClips:
    """The test clips of a task and what encoders made of them, by the key of a cell."""

    names: list[str]
    splits: list[str]  # of the task, which are the folds
    targets: Array  # [n] int
    clusters: list[int] | None  # numbers
    n_labels: int
    restricted: bool
    right: dict[str, Array] = field(default_factory=dict)  # seeds that were right [n] int
    predicted: dict[str, Array] = field(default_factory=dict)  # [n_seeds, n] uint16

    def difficulty(self) -> Array:
        """Return uint8 [n]: how many seeds of all encoders were right, 255 for the most."""
        total = np.sum(list(self.right.values()), axis=0)
        return np.asarray(255 * total // max(1, int(total.max())), np.uint8)


class ClipBytes:
    """Bytes to be packed; each array in them is a place [offset, length]."""

    def __init__(self, parts: Sequence[bytes] = ()) -> None:
        self._parts = list(parts)
        self._n = sum(map(len, parts))

    def copy(self) -> ClipBytes:
        """Return bytes to which others can be added."""
        return ClipBytes(self._parts)

    def add(self, values: Array, most: int) -> list[int]:
        """Append integers below `most` as bytes, or as low bytes and then the next ones."""
        planes = [values & 255]
        while most > 256:
            most = -(-most // 256)
            values = values >> 8
            planes.append(values & 255)
        data = b"".join(plane.astype(np.uint8).tobytes() for plane in planes)
        place = [self._n, len(data)]
        self._parts.append(data)
        self._n += len(data)
        return place

    def bytes(self) -> bytes:
        """Return all that was added."""
        return b"".join(self._parts)


def clips_of(groups: Sequence[Group]) -> dict[str, TaskClips]:
    """Read what is known of every clip, by task; encoders with other clips than the first go."""
    found: dict[str, TaskClips] = {}
    words: dict[str, _Words] = {}
    for group in groups:
        own = _clips(group, words.get(group.task))
        if own is None:
            continue
        said, targets, predicted = own
        if group.task not in found:
            words[group.task] = said
            number = {name: i for i, name in enumerate(sorted(set(said.clusters)))}
            found[group.task] = TaskClips(
                said.names,
                said.splits,
                targets,
                [number[name] for name in said.clusters] if any(said.clusters) else None,
                group.runs[0].record.n_labels,
                group.restricted,
            )
        task = found[group.task]
        if task.names != said.names:
            continue
        key = "|".join((group.protocol, group.task, group.encoder))
        task.right[key] = (predicted == targets).sum(axis=0)
        task.predicted[key] = predicted
    return found


class _Words(NamedTuple):
    """What the arrays of a record call its clips, as lists [n], and the arrays of their names."""

    folds: list[str]
    raw: list[Array]
    names: list[str]
    splits: list[str]
    clusters: list[str]


def _clips(group: Group, known: _Words | None) -> tuple[_Words, Array, Array] | None:
    """Return names, targets [n] and predictions [n_seeds, n]; None where a clip has no single
    label or the predictions are not there. `known` are another group's names, taken where they are
    the same."""
    first: tuple[_Words, Array] | None = None
    predicted = []
    for run in group.runs:
        if not run.has_predictions or run.source != "mambabench" or not run.record.folds:
            return None
        try:
            arrays = read_predictions(run.path, None if first is None else _of_every_seed)
        except StoreError:
            return None  # said where the intervals are computed
        folds = [fold.fold for fold in run.record.folds]
        if any(f"{f}/probability" not in arrays for f in folds):
            return None
        if first is None and any(arrays[f"{f}/target"].ndim > 1 for f in folds):
            return None
        clips = [arrays[f"{f}/clip"] for f in folds]
        if first is None:
            if known is None or known.folds != folds or not _equal(known.raw, clips):
                known = _words(arrays, folds, clips)
            targets = np.concatenate([arrays[f"{f}/target"] for f in folds]).astype(np.int64)
            first = known, targets
        elif not _equal(first[0].raw, clips):
            return None
        chosen = [arrays[f"{f}/probability"].argmax(axis=1) for f in folds]
        predicted.append(np.concatenate(chosen).astype(np.uint16))
    return None if first is None else (*first, np.stack(predicted))


def _equal(one: Sequence[Array], other: Sequence[Array]) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def _words(arrays: Mapping[str, Array], folds: list[str], clips: list[Array]) -> _Words:
    empty = np.array([])
    return _Words(
        folds,
        clips,
        [f"{n}" for own in clips for n in own.tolist()],
        [f for f, own in zip(folds, clips, strict=True) for _ in own],
        [str(n) for f in folds for n in arrays.get(f"{f}/cluster", empty).tolist()],
    )


def _of_every_seed(name: str) -> bool:
    """Whether an array is read of every seed; the others are equal for all."""
    return name.endswith(("/clip", "/probability"))


def most_clips(found: dict[str, TaskClips]) -> int:
    """Return the most clips that one encoder has over the tasks."""
    total: dict[str, int] = {}
    for task in found.values():
        for key in task.right:
            protocol, _, rest = key.partition("|")
            name = f"{protocol}|{rest.rpartition('|')[2]}"
            total[name] = total.get(name, 0) + len(task.names)
    return max(total.values(), default=0)


def estimated_bytes(found: dict[str, TaskClips]) -> int:
    """Return about how much all predictions take when packed: the entropy of what is stored."""
    bits = 0.0
    for task in found.values():
        order = np.argsort(task.difficulty(), kind="stable")
        for predicted in task.predicted.values():
            for row in _distances(predicted[:, order], task.targets[order], task.n_labels):
                for start in range(0, len(row), _CHUNK):
                    counts = np.bincount(row[start : start + _CHUNK])
                    counts = counts[counts > 0]
                    bits -= float((counts * np.log2(counts / counts.sum())).sum())
    return int(bits / 8)


def _distances(predicted: Array, targets: Array, n_labels: int) -> Array:
    """Return [n_seeds, n]: the first row from the labels, the others from the first row."""
    base = np.concatenate([targets[None], np.repeat(predicted[:1], len(predicted) - 1, axis=0)])
    return np.asarray((predicted - base) % n_labels)


def _in_twos(values: Array, most: int) -> tuple[Array, int]:
    """Put two numbers below `most` into a byte where they fit; return the values, and below what.

    Bytes that are hardly ever the same number take less than a bit each only so.
    """
    if most > 16:
        return values, most
    even = np.append(values, 0) if len(values) % 2 else values
    return even[::2] * most + even[1::2], most * most


def write_clips(
    found: dict[str, TaskClips], body: dict[str, Any], block: ClipBytes, *, predictions: bool
) -> None:
    """Put the clips into the block, and where they are there into tasks and cells of `body`.

    Without `predictions` only how many seeds were right, of two clips in a byte where that fits.
    """
    for name, task in found.items():
        difficulty = task.difficulty()
        order = np.argsort(difficulty, kind="stable")
        about = body["tasks"][name]
        about["n_labels"] = task.n_labels
        about["difficulty"] = block.add(difficulty, 256)
        about["targets"] = block.add(task.targets[order], task.n_labels)
        if task.clusters is not None:
            numbers = np.asarray(task.clusters)[order]
            about["n_clusters"] = 1 + max(task.clusters)
            about["clusters"] = block.add(numbers, about["n_clusters"])
        if not task.restricted:
            about["names"] = task.names
        for key, right in task.right.items():
            cell = body["cells"][key]
            if predictions:
                rows = _distances(task.predicted[key][:, order], task.targets[order], task.n_labels)
                cell["predicted"] = block.add(rows.ravel(), task.n_labels)
            else:
                cell["right"] = block.add(*_in_twos(right[order], len(task.predicted[key]) + 1))
