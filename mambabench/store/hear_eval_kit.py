"""hear-eval-kit's own embeddings directory: write it, read it, replay its order of rows.

Source: hear-eval-kit 2021.1.3, embeddings phase. ``<task>/`` holds ``<split>.json``, per clip
``<split>/<clip>.embedding.npy`` and labels, per split one headerless float32 matrix (in spite of
its name, ``<split>.embeddings.npy``) with shape, labels and, of timestamp tasks, file and time of
every row; ``.done.embeddings`` comes last. Which clip a row of a scene task belongs to is not
stored: it follows from the kit's shuffle, which is replayed here and checked against the labels.
"""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mambabench.benchmarks.layout.read import load_task
from mambabench.errors import StoreError
from mambabench.files import atomic_write, read_json, sha256_bytes, sha256_file
from mambabench.reading.arrays import UNREADABLE
from mambabench.reading.json_files import parse_json
from mambabench.reading.text import decode_text, same_name
from mambabench.selfhash import (
    HashMismatchError,
    parse_hashed,
    sha256_of_json,
    sha256_once,
    write_hashed_json,
)
from mambabench.store.embeddings import MANIFEST, EmbeddingSet, StoredTask, array_path, check_file
from mambabench.store.gather import Gathered, gather_split, read_place, shard_notes
from mambabench.store.plan import task_files
from mambabench.store.seal import check_plan, finish_work, locked, manifest_head, sealing
from mambabench.store.sources import (
    AUDIO,
    SourceFiles,
    changed_in_store,
    read_sources,
    write_sources,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mambabench.benchmarks.task import Task
    from mambabench.store.plan import TaskPlan

__all__ = [
    "DONE",
    "PREFIX",
    "PROFILE",
    "changed_clips",
    "content_sha256",
    "is_sealed",
    "labels_at",
    "profile_of",
    "read_labels",
    "read_sidecar",
    "read_split",
    "seal",
    "sealed_missing",
    "sealed_warnings",
    "shuffled_order",
    "stored_task",
    "unseal",
]

DONE = ".done.embeddings"
SIDECAR = ".mambabench.json"  # what the kit has no place for: encoder, layers, missing clips
PROFILE = "profile.embeddings.json"
PREFIX = ".mambabench-"  # of our own other files
SCHEMA = "mambabench.hear-eval-kit/2"
_WITHOUT_HASHES = "mambabench.hear-eval-kit/1"
SIDECAR_FIELDS = ("layers", "encoder", "encoder_identity", "missing")
END_TOLERANCE_MS = 1e-4  # an event still sounds at its own end


def shuffled_order(task: Task) -> dict[str, list[int]]:
    """Return, per split, the indices of its clips in the order of hear-eval-kit's rows.

    One ``random.Random(0)`` per task shuffles the splits in the order of the metadata.
    """
    stream = random.Random(0)
    orders = {}
    for split in task.splits:
        order = list(range(len(task.clips[split])))
        stream.shuffle(order)
        orders[split] = order
    return orders


def labels_at(events: Sequence[dict[str, Any]], times_ms: Sequence[float]) -> list[list[Any]]:
    """Return the labels of the events that sound at each time, both ends included."""
    return [
        sorted(
            (e["label"] for e in events if e["start"] <= t < e["end"] + END_TOLERANCE_MS), key=str
        )
        for t in times_ms
    ]


# --- writing ---


def is_sealed(directory: Path, plan: TaskPlan) -> bool:
    """Tell whether `directory` is finished, by this very plan or by the kit itself.

    Raises StoreError where it was finished by another plan or holds the other layout.
    """
    if (directory / MANIFEST).is_file():
        raise StoreError(
            f"{directory} holds embeddings in the layout 'store': choose another --out, or "
            "--layout store"
        )
    if not (directory / DONE).is_file():
        return False
    sidecar = read_sidecar(directory)
    if sidecar is not None:
        check_plan(directory, sidecar, plan)
    return True


def sealed_missing(directory: Path) -> dict[str, str]:
    """Return the clips that the directory does without, and why."""
    sidecar = read_sidecar(directory)
    return dict(sidecar["missing"]) if sidecar else {}


def sealed_warnings(directory: Path) -> dict[str, str]:
    """Return what must be known of clips that are in the directory all the same."""
    sidecar = read_sidecar(directory)
    return dict(sidecar.get("warnings", {})) if sidecar else {}


def changed_clips(directory: Path, plan: TaskPlan, *, full: bool) -> dict[str, tuple[str, ...]]:
    """Return split -> clips of a finished directory that are no longer what was encoded.

    What the kit or an older version wrote says nothing of its audio: then there are none.
    """
    if read_sources(directory, PREFIX) is None:
        return {}
    return changed_in_store(directory, plan, full=full, prefix=PREFIX)


def unseal(directory: Path) -> None:
    """Take `DONE` away: for readers the directory is unfinished again."""
    (directory / DONE).unlink(missing_ok=True)


def seal(
    directory: Path, plan: TaskPlan, configuration: dict[str, Any], provenance: dict[str, Any]
) -> None:
    """Write the kit's directory from the committed shards, `DONE` last, and remove the shards."""
    with locked(directory):
        if (directory / DONE).is_file():
            finish_work(directory)
            return
        with sealing(directory, lambda: (directory / DONE).is_file()):
            head = manifest_head(plan, configuration) | {"schema": SCHEMA, "missing": {}}
            gathered = {
                split: gather_split(directory, split, [s for s in plan.shards if s.split == split])
                for split in plan.task.splits
            }
            head["files"] = _write_task_files(directory, plan, gathered)
            stream = random.Random(0)
            for split, rows in gathered.items():
                head["missing"] |= {f"{split}/{c}": why for c, why in rows.failures.items()}
                head["files"] |= _write_split(directory, split, rows, stream)
            sources = SourceFiles(
                {split: rows.audio_sha256 for split, rows in gathered.items()},
                {split: rows.seen for split, rows in gathered.items()},
            )
            write_sources(directory, sources, PREFIX)
            if notes := shard_notes(directory, plan):
                head["warnings"] = notes
            head["audio"] = sha256_file(directory / (PREFIX + AUDIO))
            write_hashed_json(directory / SIDECAR, head)
            write_hashed_json(directory / f"{PREFIX}provenance.json", provenance)
            _write_compact(directory / PROFILE, profile_of(provenance))
            atomic_write(directory / DONE, lambda file: None)
        finish_work(directory)


def _write_task_files(
    directory: Path, plan: TaskPlan, gathered: dict[str, Gathered]
) -> dict[str, str]:
    """Copy the task's text files, splits without the missing clips; return name -> hash."""

    hashes = {}
    for name, data in task_files(plan.task).items():
        rows = gathered.get(name.removesuffix(".json"))
        if rows is not None and rows.failures:
            kept = {k: v for k, v in json.loads(data).items() if k not in rows.failures}
            data = json.dumps(kept).encode()
        atomic_write(directory / name, _writer(data))
        hashes[name] = sha256_bytes(data)
    return hashes


def _write_split(
    directory: Path, split: str, rows: Gathered, stream: random.Random
) -> dict[str, str]:
    """Write all files of a split; return name -> hash of those that hold all of its rows."""
    import numpy as np

    clips = read_json(directory / f"{split}.json")
    names = list(clips)
    (directory / split).mkdir(exist_ok=True)
    labels: dict[str, Any] = {}
    times: dict[str, list[float]] = {}
    for place, name in zip(rows.places, names, strict=True):
        embeddings, timestamps = read_place(rows, place)
        flat = embeddings.reshape(len(embeddings), -1)
        labels[name] = clips[name]
        if timestamps is not None:
            times[name] = [float(t) for t in timestamps]
            labels[name] = labels_at(clips[name], times[name])
            _write_beside(directory / split / f"{name}.timestamps.json", times[name])
        array = flat if timestamps is not None else flat[0]
        np.save(directory / split / f"{name}.embedding.npy", array, allow_pickle=False)
        _write_beside(directory / split / f"{name}.target-labels.json", labels[name])
    order = list(range(len(names)))
    stream.shuffle(order)

    def matrix(file: BinaryIO) -> None:
        for i in order:
            file.write(read_place(rows, rows.places[i])[0].tobytes())

    n_rows = sum(place.n_rows for place in rows.places)
    atomic_write(array_path(directory, split, "embeddings"), matrix)
    dimensions = [n_rows, rows.n_layers * rows.dim]
    _write_compact(directory / f"{split}.embedding-dimensions.json", dimensions)
    ordered = [labels[names[i]] for i in order]
    targets = [one for clip in ordered for one in clip] if rows.has_timestamps else ordered
    data = pickle.dumps(targets)
    atomic_write(directory / f"{split}.target-labels.pkl", _writer(data))
    if rows.has_timestamps:
        pairs = [[str(directory / split / names[i]), t] for i in order for t in times[names[i]]]
        _write_compact(directory / f"{split}.filename-timestamps.json", pairs)
    kinds = ("embeddings.npy", "embedding-dimensions.json", "target-labels.pkl")
    return {f"{split}.{kind}": sha256_file(directory / f"{split}.{kind}") for kind in kinds}


def profile_of(provenance: dict[str, Any]) -> dict[str, Any]:
    """Return what the kit's own file of times and memory says."""
    elapsed = provenance["run"]["worker_s"]
    return {"time_elapsed": elapsed, "gpu_max_mem": None, "gpu_device_name": None}


def _write_compact(path: Path, value: object) -> None:
    atomic_write(path, _writer(json.dumps(value).encode()))


def _write_beside(path: Path, value: object) -> None:
    """Write a file per clip without a sync: only `DONE`, which comes later, makes it count."""
    path.write_bytes(json.dumps(value).encode())


def _writer(data: bytes) -> Callable[[BinaryIO], None]:
    def write(file: BinaryIO) -> None:
        file.write(data)

    return write


# --- reading ---


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
    except (OSError, ValueError, TypeError) as error:
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
        check_file(path, sidecar["files"][path.name])
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


def read_sidecar(directory: Path) -> dict[str, Any] | None:
    """Return what stands beside the kit's files, None where the kit itself made the directory.

    Raises StoreError where it cannot be read or has not the hash that it states.
    """
    path = directory / SIDECAR
    try:
        data = path.read_bytes()
        value = parse_json(decode_text(data))
        if isinstance(value, dict) and value.get("schema") != _WITHOUT_HASHES:
            parse_hashed(data)
    except FileNotFoundError:
        return None
    except HashMismatchError as error:
        raise StoreError(
            f"{path} was edited or damaged: {error}; remove {DONE}, embed again"
        ) from error
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise StoreError(f"{path} cannot be read ({error}); remove {DONE}, embed again") from error
    if not isinstance(value, dict):
        raise StoreError(f"{path} holds no object; remove {DONE}, embed again")
    return value


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
