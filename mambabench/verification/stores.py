"""Check embedding stores of both layouts, finished or not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mambabench.errors import DataError, MambabenchError, StoreError
from mambabench.extract.audio import find_audio
from mambabench.files import sha256_file
from mambabench.selfhash import parse_hashed
from mambabench.store import hear_eval_kit as kit
from mambabench.store import hear_eval_kit_files as kit_files
from mambabench.store import hear_eval_kit_read as kit_read
from mambabench.store.embeddings import MANIFEST, StoredTask, read_manifest, stored_task
from mambabench.store.seal import MISSING, PROVENANCE
from mambabench.store.shards import ShardRecord, plan_path, read_record, work_folder
from mambabench.store.sources import AUDIO, SEEN, read_sources
from mambabench.verification.finding import Finding, is_temporary

__all__ = ["check_store"]

_AGAIN = "delete {} and extract again"


def check_store(directory: Path, tasks: Path) -> Iterator[Finding]:
    """Yield what is wrong with OUT/embeddings/<encoder>/<task>.

    `tasks` is OUT/tasks: where the store's task lies there, its files are held against the store.
    """
    yield from _temporaries(directory)
    if (directory / MANIFEST).is_file():
        yield from _sealed(directory, tasks)
    elif (directory / kit_files.DONE).is_file():
        yield from _kit(directory)
    elif work_folder(directory).is_dir():
        yield from _unfinished(directory)
    elif any(directory.iterdir()):
        yield _whole(directory, directory, "has neither a manifest nor shards", kind="leftover")


def _whole(
    directory: Path, path: Path, problem: str, kind: str = "damaged", name: str = "its folder"
) -> Finding:
    return Finding(path, kind, problem, _AGAIN.format(name), (directory,))


def _alone(path: Path, problem: str, kind: str = "damaged", remedy: str = "") -> Finding:
    return Finding(path, kind, problem, remedy or _AGAIN.format("it"), (path,))


def _temporaries(directory: Path) -> Iterator[Finding]:
    for path in sorted(directory.rglob(".*.tmp")):
        if is_temporary(path):
            problem = "is the temporary file of a write that was cut off"
            yield _alone(path, problem, "leftover", "delete it, unless a command is running now")


def _sealed(directory: Path, tasks: Path) -> Iterator[Finding]:
    try:
        manifest = read_manifest(directory)
        assert manifest is not None
        hashes = dict(manifest.get("files", {}))
        for split, entry in manifest["splits"].items():
            for name, array in entry["arrays"].items():
                hashes[f"{split}.{name}.npy"] = array["sha256"]
    except (StoreError, KeyError, TypeError, AttributeError) as error:
        yield _whole(directory, directory / MANIFEST, f"does not hold ({error})")
        return
    broken = list(_wrong_hashes(directory, hashes))
    yield from broken
    yield from _beside(directory, "", str(manifest.get("audio", "")))
    if work_folder(directory).is_dir():
        yield _alone(work_folder(directory), "is left of a sealed store", "leftover")
    known = {*hashes, MANIFEST, AUDIO, SEEN, PROVENANCE, "work"}
    yield from _strays(
        directory, known | (_text_files(directory) if "files" not in manifest else set())
    )
    if not broken:
        try:
            stored = stored_task(directory)
        except MambabenchError as error:
            yield _whole(directory, directory, f"cannot be read ({error})")
            return
        assert stored is not None
        yield from _against_task(stored, manifest, tasks / directory.name)


def _text_files(directory: Path) -> set[str]:
    """Files of a store that states no hashes of them."""
    return {p.name for p in directory.iterdir() if p.suffix in (".json", ".csv")}


def _wrong_hashes(directory: Path, hashes: dict[str, str]) -> Iterator[Finding]:
    for name, sha256 in hashes.items():
        path = directory / name
        if not path.is_file():
            yield _whole(directory, path, "is missing")
        elif sha256_file(path) != sha256:
            yield _whole(directory, path, "has not the hash that was stored with it")


def _beside(directory: Path, prefix: str, audio_sha256: str) -> Iterator[Finding]:
    """Check what lies beside the embeddings: it is moved aside alone and made again, or not."""
    for name in (AUDIO, SEEN, PROVENANCE):
        path = directory / (prefix + name)
        if not path.is_file():
            if name == AUDIO and audio_sha256:
                yield Finding(path, "damaged", "is missing", "extract again: it is made anew", ())
            continue
        whole = not audio_sha256 or name != AUDIO or sha256_file(path) == audio_sha256
        if not whole or not _hash_holds(path, required=bool(audio_sha256)):
            remedy = "delete it: no result depends on it"
            if name == AUDIO:
                remedy = "delete it and extract again: it is made anew from the audio"
            yield _alone(path, "has not the hash that it states", remedy=remedy)


def _hash_holds(path: Path, *, required: bool) -> bool:
    try:
        parse_hashed(path.read_bytes())
    except KeyError:
        return not required  # an older version wrote no hash
    except (OSError, ValueError):
        return False
    return True


def _strays(directory: Path, known: set[str]) -> Iterator[Finding]:
    for path in sorted(directory.iterdir()):
        if path.name not in known and not is_temporary(path):
            yield _alone(path, "is no file of a store", "stray", "move it elsewhere")


def _against_task(stored: StoredTask, manifest: dict[str, Any], task: Path) -> Iterator[Finding]:
    """Hold a store against the task in the same output folder, if it lies there."""
    sources = read_sources(stored.directory)
    rate = manifest["resampled_from_hz"] or manifest["sample_rate_hz"]
    if not task.is_dir() or sources is None:
        return
    for name, sha256 in manifest.get("files", {}).items():
        if (task / name).is_file() and sha256_file(task / name) != sha256:
            problem = f"is not what {stored.directory} was made from"
            remedy = "restore it, or extract into another --out"
            yield Finding(task / name, "stale", problem, remedy, ())
    for split, clips in sources.sha256.items():
        for clip, sha256 in clips.items():
            path = find_audio(task / str(rate) / split, clip)
            if path.is_file() and sha256_file(path) != sha256:
                yield Finding(
                    path,
                    "stale",
                    f"is not the audio that {stored.directory} was made from",
                    "extract again: its shard is encoded anew",
                    (),
                )


def _unfinished(directory: Path) -> Iterator[Finding]:
    """Check the shards of a store that is being filled; that it is unfinished is no defect."""
    plan = plan_path(directory)
    if plan.is_file() and not _hash_holds(plan, required=False):
        yield _alone(plan, "has not the hash that it states")
    failures: dict[str, str] = {}
    for folder in sorted(p for p in work_folder(directory).iterdir() if p.is_dir()):
        for path in sorted(folder.iterdir()):
            if is_temporary(path):
                continue
            rows, text = path.with_suffix(".rows"), path.with_suffix(".json")
            if path.suffix == ".rows" and not text.is_file():
                yield _alone(path, "was never committed", "leftover")
            elif path.suffix == ".json":
                record = read_record(directory, folder.name, path.stem)
                if record is None or sha256_file(rows) != record.sha256:
                    problem = "is damaged, or its rows are"
                    pair = tuple(p for p in (text, rows) if p.is_file())
                    yield Finding(path, "damaged", problem, _AGAIN.format("both"), pair)
                else:
                    failures |= _named(folder.name, record)
            elif path.suffix != ".rows":
                yield _alone(path, "is no file of a store", "stray", "move it elsewhere")
    listed = directory / MISSING
    if listed.is_file():
        try:
            good = json.loads(listed.read_bytes()).items() <= failures.items()
        except (ValueError, AttributeError):
            good = False
        if not good:
            yield _alone(listed, "is not what the shards say")


def _named(split: str, record: ShardRecord) -> dict[str, str]:
    return {f"{split}/{clip}": reason for clip, reason in record.failures.items()}


def _kit(directory: Path) -> Iterator[Finding]:
    """Check a directory in hear-eval-kit's layout; what the kit made states no hashes."""
    try:
        sidecar = kit_files.read_sidecar(directory)
        hashes = dict(sidecar.get("files", {})) if sidecar else {}
    except (StoreError, AttributeError) as error:
        yield _whole(directory, directory / kit_files.SIDECAR, f"does not hold ({error})")
        return
    broken = list(_wrong_hashes(directory, hashes))
    yield from broken
    if sidecar is not None:
        yield from _beside(directory, kit_files.PREFIX, str(sidecar.get("audio", "")))
    if broken:
        return
    try:
        stored = kit_read.stored_task(directory)
        assert stored is not None
        for split in stored.task.splits:
            yield from _kit_split(stored, split)
    except (StoreError, DataError, OSError, ValueError, TypeError) as error:
        yield _whole(directory, directory, f"does not hold together ({error})")
    yield from _kit_profile(directory)


def _kit_profile(directory: Path) -> Iterator[Finding]:
    """Hold the kit's file of times against our provenance, where there is one."""
    path = directory / kit_files.PROFILE
    try:
        profile = json.loads(path.read_bytes())
        provenance = json.loads((directory / (kit_files.PREFIX + PROVENANCE)).read_bytes())
        same = profile == kit.profile_of(provenance)
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        same = False
    if not same:
        problem, remedy = "is not what was measured", "delete it: no result depends on it"
        yield _alone(path, problem, remedy=remedy)


def _kit_split(stored: StoredTask, split: str) -> Iterator[Finding]:
    """Hold the files of every clip against the matrix, the labels and the times of the split."""
    directory = stored.directory
    listed = directory / f"{split}.filename-timestamps.json"
    if stored.task.embedding_type == "event":
        try:
            folders = {str(file).rpartition("/")[0] for file, _ in json.loads(listed.read_bytes())}
        except (OSError, ValueError, TypeError) as error:
            yield _whole(directory, listed, f"cannot be read ({error})")
            return
        if len(folders) > 1:
            yield _whole(directory, listed, "names files of several folders")
    found = kit_read.read_split(stored, split)
    clips = json.loads((directory / f"{split}.json").read_bytes())
    flat = found.embeddings.reshape(len(found.embeddings), -1)
    for i, name in enumerate(found.clip_names):
        start, stop = found.offsets[i : i + 2]
        stem = directory / split / name
        wanted: dict[str, Any] = {"target-labels.json": clips[name]}
        if found.timestamps_ms is not None:
            times = [float(t) for t in found.timestamps_ms[start:stop]]
            wanted = {
                "timestamps.json": times,
                "target-labels.json": kit_files.labels_at(clips[name], times),
            }
        for end, value in wanted.items():
            path = Path(f"{stem}.{end}")
            try:
                same = json.loads(path.read_bytes()) == value
            except (OSError, ValueError):
                same = False
            if not same:
                yield _whole(directory, path, f"is not what {split}.json and the rows say")
        path = Path(f"{stem}.embedding.npy")
        rows = flat[start:stop] if found.timestamps_ms is not None else flat[start]
        try:
            same = np.load(path, allow_pickle=False).tobytes() == rows.tobytes()
        except (OSError, ValueError):
            same = False
        if not same:
            yield _whole(directory, path, f"is not its row in {split}.embeddings.npy")
