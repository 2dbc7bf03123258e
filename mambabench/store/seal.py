"""Turn the committed shards of a task into a sealed store: few files, in the split's own order."""

from __future__ import annotations

import fcntl
import hashlib
import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mambabench.errors import StoreError
from mambabench.files import (
    atomic_write,
    canonical_json,
    sha256_bytes,
    sha256_file,
)
from mambabench.selfhash import parse_hashed, write_hashed_json
from mambabench.store.again import AGAIN, write_again
from mambabench.store.embeddings import (
    MANIFEST,
    STORE_SCHEMA,
    array_path,
    read_manifest,
    stored_task,
)
from mambabench.store.gather import Gathered, gather_split, read_chunks, shard_notes
from mambabench.store.plan import EncoderSpec, TaskPlan, task_files
from mambabench.store.shards import plan_path, work_folder
from mambabench.store.sources import AUDIO, SourceFiles, changed_in_store, write_sources

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "MISSING",
    "PROVENANCE",
    "changed_clips",
    "check_plan",
    "check_same_encoder",
    "claim",
    "finish_work",
    "is_sealed",
    "locked",
    "manifest_head",
    "seal",
    "sealed_missing",
    "sealed_warnings",
    "sealing",
    "stored_task",
    "unseal",
]

MISSING = "missing.json"
PROVENANCE = "provenance.json"
_REMEDY = "embed it anew with --replace, or choose another --out"


def is_sealed(directory: Path, plan: TaskPlan) -> bool:
    """Tell whether `directory` holds the finished result of this very plan.

    Raises StoreError where it holds the result of another one, and says in what they differ.
    """
    if (directory / ".done.embeddings").is_file():
        raise StoreError(
            f"{directory} holds embeddings in the layout 'hear-eval-kit': choose another --out, or "
            "--layout hear-eval-kit"
        )
    manifest = read_manifest(directory)
    if manifest is None:
        return False
    check_plan(directory, manifest, plan)
    return True


def check_plan(directory: Path, found: dict[str, Any], plan: TaskPlan) -> None:
    """Raise StoreError where what is `found` in a folder came from another plan."""
    if found["plan"] != plan.key:
        check_same_encoder(directory, found, plan.spec)
        raise StoreError(
            f"{directory} was made from other audio or labels than {plan.task.directory} holds now "
            f"(or by another version of mambabench); {_REMEDY}"
        )


def sealed_missing(directory: Path) -> dict[str, str]:
    """Return the clips that the sealed store does without, and why."""
    manifest = read_manifest(directory)
    return dict(manifest["missing"]) if manifest else {}


def sealed_warnings(directory: Path) -> dict[str, str]:
    """Return what must be known of clips that are in the sealed store all the same."""
    manifest = read_manifest(directory)
    return dict(manifest.get("warnings", {})) if manifest else {}


def changed_clips(directory: Path, plan: TaskPlan, *, full: bool) -> dict[str, tuple[str, ...]]:
    """Return split -> clips of the sealed store that are no longer what was encoded."""
    manifest = read_manifest(directory)
    splits = manifest["splits"] if manifest else {}
    hashes = {split: str(entry["audio_sha256"]) for split, entry in splits.items()}
    return changed_in_store(directory, plan, full=full, audio_sha256=hashes)


def unseal(directory: Path) -> None:
    """Take the manifest away: for readers the store no longer exists."""
    (directory / MANIFEST).unlink(missing_ok=True)


def check_same_encoder(directory: Path, found: dict[str, Any], spec: EncoderSpec) -> None:
    """Raise StoreError where what is `found` in a folder was made by another encoder or setting."""
    if found["encoder_identity"] != spec.identity:
        raise StoreError(
            f"{directory} was made by other weights: encoder {found['encoder']!r} with identity "
            f"{found['encoder_identity'][:8]}, now {spec.label!r} with {spec.identity[:8]}; "
            f"{_REMEDY}"
        )
    settings = {
        "layers": spec.layers,
        "precision": spec.precision,
        "device": spec.device,
        "frames": spec.frames,
    }
    for field, value in settings.items():
        before = _shown(found.get(field, "store") if field == "frames" else found[field])
        now = _shown(value)
        if before != now:
            raise StoreError(
                f"{directory} was made with {field} {before}, now {now} is asked for; {_REMEDY}"
            )


def claim(directory: Path, plan: TaskPlan) -> None:
    """Note in the work folder who fills it. Raises StoreError where another encoder began it."""
    path = plan_path(directory)
    spec = plan.spec
    mine = {
        "encoder": spec.label,
        "encoder_identity": spec.identity,
        "layers": spec.layers,
        "precision": spec.precision,
        "device": spec.device,
        "frames": spec.frames,
        "shards": len(plan.shards),
    }
    try:
        check_same_encoder(directory, parse_hashed(path.read_bytes()), spec)
    except (FileNotFoundError, ValueError, KeyError):
        try:
            write_hashed_json(path, mine)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror or error}") from error


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return "last" if value is None else str(value)


def seal(
    directory: Path, plan: TaskPlan, configuration: dict[str, Any], provenance: dict[str, Any]
) -> None:
    """Compact the shards of all splits, write the manifest, remove the shards.

    Two processes may do so at once: the files that they write are equal. Raises StoreError where
    the disk refuses or a shard is damaged.
    """
    with locked(directory):
        if read_manifest(directory) is not None:
            finish_work(directory)
            return
        with sealing(directory, lambda: read_manifest(directory) is not None):
            files = task_files(plan.task)
            for name, data in files.items():
                atomic_write(directory / name, _writer(data))
            manifest = manifest_head(plan, configuration) | {"splits": {}, "missing": {}}
            sources = SourceFiles({}, {})
            frames: dict[str, str] = {}
            for split in plan.task.splits:
                shards = [shard for shard in plan.shards if shard.split == split]
                gathered = gather_split(directory, split, shards)
                manifest["splits"][split] = _write_split(
                    directory, split, gathered, half=plan.task.pooling == "frames"
                )
                manifest["missing"] |= {f"{split}/{c}": r for c, r in gathered.failures.items()}
                frames |= {f"{split}/{c}": h for c, h in gathered.frames_sha256.items()}
                sources.sha256[split] = gathered.audio_sha256
                sources.seen[split] = gathered.seen
            write_sources(directory, sources)
            manifest["files"] = {name: sha256_bytes(data) for name, data in files.items()}
            if plan.spec.frames == "recompute":
                manifest["frames"] = "recompute"
                manifest["frames_sha256"] = sha256_bytes(canonical_json(frames))
                manifest["files"][AGAIN] = write_again(directory, plan, frames)
            if notes := shard_notes(directory, plan):
                manifest["warnings"] = notes
            manifest["audio"] = sha256_file(directory / AUDIO)
            write_hashed_json(directory / PROVENANCE, provenance)
            write_hashed_json(directory / MANIFEST, manifest)
        finish_work(directory)


@contextmanager
def sealing(directory: Path, is_done: Callable[[], bool]) -> Iterator[None]:
    """Turn a refusal of the disk into a StoreError, unless another process has sealed meanwhile."""
    try:
        yield
    except OSError as error:
        if not is_done():
            raise StoreError(
                f"cannot seal {directory}: {error.strerror or error}; free some space or fix the "
                "folder and give the same command again: what is committed stays"
            ) from error


def finish_work(directory: Path) -> None:
    """Remove what only an unfinished store needs."""
    (directory / MISSING).unlink(missing_ok=True)
    plan_path(directory).unlink(missing_ok=True)  # first: it tells other processes to stop
    shutil.rmtree(work_folder(directory), ignore_errors=True)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of the work folder; the system frees it with the process, however that ends.

    Where the file system knows no locks, go on without: every write is atomic and repeatable.
    """
    folder = work_folder(directory)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def manifest_head(plan: TaskPlan, configuration: dict[str, Any]) -> dict[str, Any]:
    """Return what a manifest says of encoder and task."""
    spec = plan.spec
    return {
        "schema": STORE_SCHEMA,
        "plan": plan.key,
        "encoder": spec.label,
        "encoder_identity": spec.identity,
        "encoder_configuration": configuration,
        "task": plan.task.name,
        "embedding_type": plan.task.embedding_type,
        "layers": None if spec.layers is None else list(spec.layers),
        "precision": spec.precision,
        "device": spec.device,
        "sample_rate_hz": spec.sample_rate_hz,
        "resampled_from_hz": plan.rate_hz if plan.rate_hz != spec.sample_rate_hz else None,
    }


def _write_split(directory: Path, split: str, gathered: Gathered, *, half: bool) -> dict[str, Any]:
    """Write a split's arrays; `half` keeps embeddings as float16 (frames of all layers)."""
    import numpy as np

    n_rows = [place.n_rows for place in gathered.places]
    offsets = np.concatenate([[0], np.cumsum(n_rows)]).astype("<i8")
    total = sum(n_rows)
    shape = (total, gathered.n_layers, gathered.dim)
    arrays = {
        "embeddings": (
            "<f2" if half else "<f4",
            shape,
            read_chunks(gathered, timestamps=False),
        ),
        "offsets": ("<i8", offsets.shape, iter([offsets])),
    }
    if gathered.has_timestamps:
        arrays["timestamps"] = ("<f4", (total,), read_chunks(gathered, timestamps=True))
    return {
        "n_clips": len(gathered.places),
        "n_rows": total,
        "audio_sha256": sha256_bytes(canonical_json(gathered.audio_sha256)),
        "arrays": {
            name: _write_array(array_path(directory, split, name), *array)
            for name, array in arrays.items()
        },
    }


def _write_array(
    path: Path, dtype: str, shape: tuple[int, ...], parts: Iterator[npt.NDArray[Any]]
) -> dict[str, Any]:
    """Write a .npy file part by part; return what the manifest says of it."""
    import numpy as np

    digest = hashlib.sha256()

    def write(file: BinaryIO) -> None:
        head = io.BytesIO()
        header = {"descr": dtype, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(head, header)
        for data in chain([head.getvalue()], _bytes_of(parts, dtype)):
            file.write(data)
            digest.update(data)

    atomic_write(path, write)
    return {
        "bytes": path.stat().st_size,
        "dtype": dtype,
        "shape": list(shape),
        "sha256": digest.hexdigest(),
    }


def _bytes_of(parts: Iterator[npt.NDArray[Any]], dtype: str) -> Iterator[bytes]:
    """Yield the bytes of each part as `dtype`; StoreError where float16 cannot hold a value."""
    import numpy as np

    for part in parts:
        with np.errstate(over="ignore"):
            converted = part.astype(dtype, copy=False)
        if dtype == "<f2" and not np.isfinite(converted).all():
            raise StoreError(
                "an embedding exceeds what float16 frames can hold (65504); the encoder's hidden "
                "states need scaling before frame-level tasks can store them"
            )
        yield converted.tobytes()


def _writer(data: bytes) -> Callable[[BinaryIO], None]:
    def write(file: BinaryIO) -> None:
        file.write(data)

    return write
