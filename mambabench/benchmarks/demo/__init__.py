"""The embedded benchmark: four small synthetic tasks in HEAR's layout, made with numpy alone.

`generate` writes them once; the same version of this package writes the same bytes on one machine.
The tasks are small enough to be probed in a minute and hard enough that encoders differ.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import wave
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.errors import DataError
from mambabench.files import canonical_json

__all__ = [
    "DEMO_PROTOCOL",
    "DEMO_TASKS",
    "SAMPLE_RATE_HZ",
    "DemoClip",
    "DemoTask",
    "describe",
    "generate",
    "metadata",
]

SAMPLE_RATE_HZ = 16000
DEMO_PROTOCOL = "sound"  # named in the tasks' metadata: fast, and right for a few hundred clips

# task directory -> function that describes it; a new demo task is a new file and a line here
DEMO_TASKS: dict[str, str] = {
    "demo_events-v1-demo": "mambabench.benchmarks.demo.events:task",
    "demo_percussion-v1-demo": "mambabench.benchmarks.demo.percussion:task",
    "demo_pitch-v1-demo": "mambabench.benchmarks.demo.pitch:task",
    "demo_vowel-v1-demo": "mambabench.benchmarks.demo.vowel:task",
}


@dataclass(frozen=True)
class DemoClip:
    """One clip to be written: where, labelled how, and how its samples are made."""

    split: str
    name: str
    labels: list[Any]  # as in HEAR's json: labels, or events as {"label", "start", "end"}
    render: Callable[[], npt.NDArray[np.float64]]  # [n_samples] in [-1, 1]
    cluster: str | None = None


@dataclass(frozen=True)
class DemoTask:
    """One task to be written: its metadata, vocabulary and clips."""

    metadata: dict[str, Any]
    labels: tuple[str, ...]
    clips: tuple[DemoClip, ...]


def generate(directory: Path) -> tuple[Path, ...]:
    """Write the demo tasks below `directory` and return their directories, sorted by name.

    A task that is there is left alone; a new one is written beside and renamed, so that it is there
    whole or not at all, also with several writers. Raises DataError where a task's folder exists
    but lacks files.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in sorted(DEMO_TASKS):
        path = directory / name
        if not path.exists():
            _write_task(path, describe(name))
        elif not (path / "task_metadata.json").is_file():
            raise DataError(
                f"{path} is no demo task (task_metadata.json is missing); delete the folder and "
                "it will be generated again"
            )
        paths.append(path)
    return tuple(paths)


def describe(name: str) -> DemoTask:
    """Return the demo task of this directory name, not yet rendered."""
    module, _, function = DEMO_TASKS[name].partition(":")
    task: DemoTask = getattr(import_module(module), function)()
    return task


def _write_task(path: Path, task: DemoTask) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        _write_files(temporary, task)
        temporary.chmod(0o755)
        try:
            os.rename(temporary, path)
        except OSError:
            if not path.is_dir():  # else another process has just written the same bytes
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_files(folder: Path, task: DemoTask) -> None:
    rows = "".join(f"{i},{label}\n" for i, label in enumerate(task.labels))
    (folder / "labelvocabulary.csv").write_bytes(f"idx,label\n{rows}".encode())
    for split in task.metadata["splits"]:
        clips = [clip for clip in task.clips if clip.split == split]
        audio = folder / str(SAMPLE_RATE_HZ) / split
        audio.mkdir(parents=True)
        for clip in clips:
            (audio / clip.name).write_bytes(_wav(clip.render()))
        (folder / f"{split}.json").write_bytes(canonical_json({c.name: c.labels for c in clips}))
    metadata = dict(task.metadata)
    if any(clip.cluster for clip in task.clips):
        clusters = {f"{clip.split}/{clip.name}": clip.cluster for clip in task.clips}
        (folder / "clusters.json").write_bytes(canonical_json(clusters))
        metadata["clusters"] = "clusters.json"
    (folder / "task_metadata.json").write_bytes(canonical_json(metadata))


def _wav(samples: npt.NDArray[np.float64]) -> bytes:
    """Return mono 16-bit PCM WAV bytes of samples in [-1, 1]."""
    pcm = np.round(np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(pcm.tobytes())
    return buffer.getvalue()


def metadata(
    name: str, splits: Iterable[str], duration_s: float, evaluation: Iterable[str], **fields: Any
) -> dict[str, Any]:
    """Return the metadata of a demo task in HEAR's fields; `fields` replace the usual ones."""
    names = list(splits)
    k_fold = names != ["train", "valid", "test"]
    return {
        "task_name": name,
        "version": "v1",
        "mode": "demo",
        "default_mode": "demo",
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "new_split_kfold" if k_fold else "trainvaltest",
        **({"nfolds": len(names)} if k_fold else {}),
        "splits": names,
        "sample_duration": duration_s,
        "evaluation": list(evaluation),
        "protocol": DEMO_PROTOCOL,
        **fields,
    }
