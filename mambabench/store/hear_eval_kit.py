"""hear-eval-kit's own embeddings directory as a layout: seal it, and what is known of it sealed.

Source: hear-eval-kit 2021.1.3, embeddings phase. ``<task>/`` holds ``<split>.json``, per clip
``<split>/<clip>.embedding.npy`` and labels, per split one headerless float32 matrix (in spite of
its name, ``<split>.embeddings.npy``) with shape, labels and, of timestamp tasks, file and time of
every row; ``.done.embeddings`` comes last. Which clip a row of a scene task belongs to is not
stored: it follows from the kit's shuffle (`hear_eval_kit_read`).
"""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mambabench.errors import StoreError
from mambabench.files import atomic_write, read_json, sha256_bytes, sha256_file
from mambabench.selfhash import (
    write_hashed_json,
)
from mambabench.store.embeddings import MANIFEST, array_path
from mambabench.store.gather import Gathered, gather_split, read_place, shard_notes
from mambabench.store.hear_eval_kit_files import (
    DONE,
    PREFIX,
    PROFILE,
    SCHEMA,
    SIDECAR,
    labels_at,
    read_sidecar,
)
from mambabench.store.hear_eval_kit_read import stored_task
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
    from mambabench.store.plan import TaskPlan

__all__ = [
    "changed_clips",
    "is_sealed",
    "profile_of",
    "seal",
    "sealed_missing",
    "sealed_warnings",
    "stored_task",
    "unseal",
]


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
