"""Read hear-eval-kit's embeddings directory, whoever wrote it.

Which clip a row of a scene task belongs to is not stored: it follows from the kit's shuffle, which
is replayed here and checked against the labels.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.benchmarks.layout.read import load_task
from mambabench.errors import StoreError
from mambabench.files import read_json
from mambabench.reading.arrays import UNREADABLE
from mambabench.reading.text import same_name
from mambabench.selfhash import sha256_of_json, sha256_once
from mambabench.store.embeddings import EmbeddingSet, StoredTask, array_path, check_file
from mambabench.store.hear_eval_kit_files import DONE, SIDECAR, read_sidecar, shuffled_order

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mambabench.benchmarks.task import Task

__all__ = ["content_sha256", "read_labels", "read_split", "stored_task"]

SIDECAR_FIELDS = ("layers", "encoder", "encoder_identity", "missing")


def stored_task(directory: Path) -> StoredTask | None:
    """Return the finished embeddings in `directory`, None where `DONE` is absent.

    What the kit wrote has no identity of its encoder: a hash of its embeddings' shapes and
    beginnings stands in.
    """

    if not (directory / DONE).is_file() or not (directory / "task_metadata.json").is_file():
        return None
    task = load_task(directory, directory.name)
    sidecar = read_sidecar(directory)
    absent = set(SIDECAR_FIELDS) - set(SIDECAR_FIELDS if sidecar is None else sidecar)
    if absent:
        raise StoreError(
            f"{directory / SIDECAR} lacks {', '.join(sorted(absent))}; remove {DONE}, embed again"
        )
    layers = sidecar["layers"] if sidecar else None
    return StoredTask(
        directory=directory,
        encoder=sidecar["encoder"] if sidecar else directory.parent.name,
        encoder_identity=sidecar["encoder_identity"] if sidecar else _identity(directory, task),
        task=task,
        layers=None if layers is None else tuple(layers),
        missing=dict(sidecar["missing"]) if sidecar else {},
        warnings=dict(sidecar.get("warnings", {})) if sidecar else {},
        layout="hear-eval-kit",
    )


def read_split(stored: StoredTask, split: str) -> EmbeddingSet:
    """Open one split, memory-mapped, its clips in the kit's shuffled order.

    Raises StoreError where files are missing or disagree about rows, order or labels.
    """
    import numpy as np

    directory = stored.directory
    path = array_path(directory, split, "embeddings")
    try:
        n_rows, width = map(int, read_json(directory / f"{split}.embedding-dimensions.json"))
        size = path.stat().st_size
        if n_rows < 0 or width < 1:
            raise ValueError(f"its dimensions are [{n_rows}, {width}]")
    except (OSError, ValueError, TypeError, OverflowError) as error:
        raise StoreError(
            f"{directory}: split {split!r} is incomplete ({error}); remove {DONE} and embed again"
        ) from error
    if size != 4 * n_rows * width:
        raise StoreError(
            f"{path} has {size} bytes, its dimensions [{n_rows}, {width}] need "
            f"{4 * n_rows * width}; remove {DONE} and embed again"
        )
    sidecar = read_sidecar(directory)
    if sidecar is not None and "files" in sidecar:
        check_file(path, sidecar["files"].get(path.name, ""))
    n_layers = 1 if stored.layers is None else len(stored.layers)
    flat = np.memmap(path, dtype="<f4", mode="r") if size else np.zeros(0, "<f4")
    order = shuffled_order(stored.task)[split]
    names = tuple(stored.task.clips[split][i].name for i in order)
    if stored.task.embedding_type == "event":
        offsets, times = _frames(directory, split, names)
    else:
        offsets, times = np.arange(n_rows + 1, dtype=np.int64), None
        _check_labels(stored, split, order)
    if offsets[-1] != n_rows or len(offsets) != len(names) + 1:
        raise StoreError(
            f"{directory}: split {split!r} has {n_rows} rows, but its clips and times make "
            f"{offsets[-1]}; remove {DONE} and embed again"
        )
    embeddings = flat.reshape(n_rows, n_layers, width // n_layers)
    return EmbeddingSet(split, names, embeddings, offsets, times)


def content_sha256(stored: StoredTask) -> str:
    """Return one hash over all rows and their times; the matrices are read for it once."""
    content: dict[str, Any] = {}
    for split in stored.task.splits:
        path = array_path(stored.directory, split, "embeddings")
        is_event = stored.task.embedding_type == "event"
        times = _timestamps(stored.directory, split) if is_event else []
        try:
            content[split] = [sha256_once(path), sha256_of_json(times)]
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(
                f"{stored.directory}: split {split!r} is incomplete ({error}); remove {DONE} and "
                "embed again"
            ) from error
    return sha256_of_json(content)


def read_labels(directory: Path, split: str) -> list[list[Any]]:
    """Return the label list of every row, from a pickle that may hold nothing but plain values."""
    path = directory / f"{split}.target-labels.pkl"
    try:
        with path.open("rb") as file:
            labels: list[list[Any]] = _Plain(file).load()
    except (*UNREADABLE, pickle.UnpicklingError, AttributeError, IndexError) as error:
        raise StoreError(f"{path} cannot be read ({error}); embed again") from error
    return labels


class _Plain(pickle.Unpickler):
    """Unpickle lists, text and numbers only: nothing that is a class or a function."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}, labels are text and numbers only")


def _frames(
    directory: Path, split: str, names: tuple[str, ...]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return where each clip's rows end and the time of every row."""
    import numpy as np

    pairs = _timestamps(directory, split)
    lengths: dict[str, int] = {}
    for name, _ in pairs:
        lengths[name] = lengths.get(name, 0) + 1
    if tuple(lengths) != names:
        raise StoreError(
            f"{directory}: {split}.filename-timestamps.json does not list the clips in the order "
            f"that follows from {split}.json; remove {DONE} and embed again"
        )
    ends = np.cumsum(list(lengths.values()))
    offsets = np.concatenate([[0], ends]).astype(np.int64)
    return offsets, np.array([time_ms for _, time_ms in pairs], dtype=np.float32)


def _timestamps(directory: Path, split: str) -> list[tuple[str, float]]:
    """Return the clip and the time, in milliseconds, of every row."""
    path = directory / f"{split}.filename-timestamps.json"
    remedy = f"remove {DONE} and embed again"
    try:
        return [
            (str(file).replace("\\", "/").rpartition("/")[2], float(time_ms))
            for file, time_ms in read_json(path)
        ]
    except FileNotFoundError as error:
        raise StoreError(f"{path} is missing; {remedy}") from error
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"{path} is empty, cut off or damaged ({error}); {remedy}") from error


def _check_labels(stored: StoredTask, split: str, order: list[int]) -> None:
    """Hold the replayed order against the labels that stand beside the rows."""
    found = [
        [same_name(str(label)) for label in row] for row in read_labels(stored.directory, split)
    ]
    clips = stored.task.clips[split]
    if found != [list(clips[i].labels) for i in order]:
        raise StoreError(
            f"{stored.directory}: the rows of split {split!r} are not in the order that follows "
            f"from {split}.json, so their clips are unknown; remove {DONE} and embed again"
        )


def _identity(directory: Path, task: Task) -> str:
    import hashlib

    digest = hashlib.sha256(directory.parent.name.encode())
    for split in _existing(task.splits, directory):
        with suppress(FileNotFoundError):  # told when the split is read
            digest.update((directory / f"{split}.embedding-dimensions.json").read_bytes())
        with array_path(directory, split, "embeddings").open("rb") as file:
            digest.update(file.read(1 << 20))
    return digest.hexdigest()


def _existing(splits: Sequence[str], directory: Path) -> Iterator[str]:
    for split in splits:
        if array_path(directory, split, "embeddings").is_file():
            yield split
