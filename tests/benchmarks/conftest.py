"""Small task directories that are right until a test spoils them."""

from __future__ import annotations

import json
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mambabench.benchmarks.demo import generate

SCENE: dict[str, Any] = {
    "task_name": "tiny",
    "version": "v1",
    "embedding_type": "scene",
    "prediction_type": "multiclass",
    "split_mode": "trainvaltest",
    "sample_duration": 0.1,
    "evaluation": ["top1_acc", "mAP"],
    "splits": ["train", "valid", "test"],
}


def write_wav(path: Path, samples: np.ndarray, rate: int = 16000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())


def write_scene_task(
    folder: Path, clips_of: dict[str, dict[str, list[Any]]], labels: list[str], **metadata: Any
) -> Path:
    """Write a scene task whose clips are 0.1 s of different noise."""
    folder.mkdir(parents=True)
    fields = {**SCENE, "splits": list(clips_of), **metadata}
    (folder / "task_metadata.json").write_text(json.dumps(fields))
    rows = "".join(f'{i},"{label}"\n' for i, label in enumerate(labels))
    (folder / "labelvocabulary.csv").write_text(f"idx,label\n{rows}")
    rng = np.random.default_rng(0)
    for split, clips in clips_of.items():
        (folder / f"{split}.json").write_text(json.dumps(clips))
        for name in clips:
            write_wav(folder / "16000" / split / name, rng.uniform(-0.5, 0.5, 1600))
    return folder


@pytest.fixture
def scene_task(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a faultless scene task named `tiny-v1-test`."""

    def write(**metadata: Any) -> Path:
        splits = {
            split: {f"{split}_{label}.wav": [label] for label in ("cat", "dog")}
            for split in metadata.get("splits", SCENE["splits"])
        }
        return write_scene_task(tmp_path / "tiny-v1-test", splits, ["cat", "dog"], **metadata)

    return write


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the generated demo tasks."""
    folder = tmp_path_factory.mktemp("demo")
    generate(folder)
    return folder
