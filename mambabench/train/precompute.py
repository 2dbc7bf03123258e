"""From folders of audio to tars of log-mels for SSAM: parallel, resumable, checked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mambabench.errors import DataError
from mambabench.files import canonical_json, read_json, sha256_file, write_json
from mambabench.models.encoders.frontends import SsamLogMel
from mambabench.train.clips import TrainingClip, read_clips, read_labels_csv
from mambabench.train.encoder_data import AUDIO
from mambabench.train.loaders import read_wave
from mambabench.train.tars import write_tar

__all__ = ["Precomputed", "describe", "precompute"]

MANIFEST = "mambabench.json"


@dataclass(frozen=True)
class Precomputed:
    """What `precompute` did."""

    folder: Path
    n_tars: int
    n_clips: int
    n_made: int  # tars made now; the others were there already
    skipped: Mapping[str, str]  # file -> why it could not be read


def _listed(sources: Sequence[Path], labels: Path | None) -> list[TrainingClip]:
    """Return the clips of folders (all below) and of AST's lists (.json)."""
    known = None if labels is None else read_labels_csv(labels)
    clips: list[TrainingClip] = []
    for source in sources:
        if source.suffix == ".json":
            clips += read_clips(source, known)
        elif source.is_dir():
            found = sorted(p for p in source.rglob("*") if p.suffix.lower() in AUDIO)
            clips += [TrainingClip(p, ()) for p in found]
        else:
            raise DataError(f"{source} is neither a folder of audio nor a .json list")
    if not clips:
        raise DataError(f"no audio ({', '.join(AUDIO)}) in {', '.join(map(str, sources))}")
    return clips


def precompute(
    sources: Sequence[Path],
    folder: Path,
    *,
    clips_per_tar: int = 1024,
    labels: Path | None = None,
    jobs: int = 1,
    on_error: str = "stop",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Precomputed:
    """Write log-mels of all clips as tars in `folder`; finished tars are left alone.

    Clips are shuffled once (`seed`) so that a tar holds a mixture. A clip that cannot be read stops
    it, or with on_error "skip" is left out and listed in the manifest. Raises DataError where
    `folder` holds tars of other clips, or a tar is not what the manifest says.
    """
    clips = _listed(sources, labels)
    order = np.random.default_rng(seed).permutation(len(clips))
    parts = [
        [(int(i), clips[int(i)]) for i in order[first : first + clips_per_tar]]
        for first in range(0, len(clips), clips_per_tar)
    ]
    plan = {
        "schema": "mambabench.logmels/1",
        "clips_per_tar": clips_per_tar,
        "seed": seed,
        "on_error": on_error,
        "clips_sha256": hashlib.sha256(
            canonical_json([[str(c.path), list(c.labels)] for c in clips])
        ).hexdigest(),
    }
    done = _begun(folder, plan)
    todo = [i for i in range(len(parts)) if f"{i:05d}.tar" not in done]
    write = {"tars": done}
    write_json(folder / MANIFEST, {**plan, **write})  # before any tar: whose they are, if killed
    for n, (index, row) in enumerate(_made(folder, parts, todo, on_error, jobs), start=1):
        done[f"{index:05d}.tar"] = row
        write_json(folder / MANIFEST, {**plan, **write})
        if progress is not None:
            progress(n, len(todo))
    skipped = {k: v for row in done.values() for k, v in row["skipped"].items()}
    n_clips = sum(row["clips"] for row in done.values())
    return Precomputed(folder, len(parts), n_clips, len(todo), skipped)


def _begun(folder: Path, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tars of a manifest that is of this plan, each checked against its hash."""
    path = folder / MANIFEST
    if not path.is_file():
        stray = sorted(folder.glob("*.tar")) if folder.is_dir() else []
        if stray:
            raise DataError(f"{folder} holds {stray[0].name} but no {MANIFEST}: use another folder")
        return {}
    found = read_json(path)
    differ = [key for key, value in plan.items() if found.get(key) != value]
    if differ and (found["tars"] or any(folder.glob("*.tar"))):  # nothing made: begin anew
        raise DataError(
            f"{folder} was made with another {', '.join(differ)}: use another folder or remove it"
        )
    tars: dict[str, Any] = found["tars"]
    for name, row in list(tars.items()):
        if not (folder / name).is_file():
            del tars[name]
        elif sha256_file(folder / name) != row["sha256"]:
            raise DataError(f"{folder / name} is not what was written: remove it and run again")
    return tars


def _made(
    folder: Path,
    parts: Sequence[Sequence[tuple[int, TrainingClip]]],
    todo: Sequence[int],
    on_error: str,
    jobs: int,
) -> Iterator[tuple[int, dict[str, Any]]]:
    if jobs == 1:
        for i in todo:
            yield i, make_tar(folder / f"{i:05d}.tar", parts[i], on_error)
        return
    with ProcessPoolExecutor(jobs) as pool:
        futures = {
            pool.submit(make_tar, folder / f"{i:05d}.tar", parts[i], on_error): i for i in todo
        }
        for future in as_completed(futures):
            yield futures[future], future.result()


def make_tar(
    path: Path, clips: Sequence[tuple[int, TrainingClip]], on_error: str
) -> dict[str, Any]:
    """Write one tar and return its row of the manifest."""
    import torch

    torch.set_num_threads(1)
    frontend = SsamLogMel()
    skipped: dict[str, str] = {}

    def samples() -> Iterator[tuple[str, Any, Any]]:
        for index, clip in clips:
            try:
                wave = read_wave(clip.path, 16000)[0]
            except DataError as error:
                if on_error == "stop":
                    raise
                skipped[str(clip.path)] = str(error)
                continue
            stem = clip.path.stem.replace(".", "_")
            key = f"{stem}-{index:08d}"  # equal stems of two folders stay apart
            yield key, frontend.raw(wave)[0].numpy(), np.array(clip.labels, np.int64)

    n = write_tar(path, samples())
    return {"clips": n, "sha256": sha256_file(path), "skipped": skipped}


def describe(done: Precomputed) -> str:
    """Return one line for the terminal."""
    left = f", {len(done.skipped)} clips left out" if done.skipped else ""
    return f"{done.folder}: {done.n_tars} tars ({done.n_made} made now), {done.n_clips} clips{left}"
