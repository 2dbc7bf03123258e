"""A small task of noise for the engines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture
def task_of_noise(tmp_path: Path) -> Path:
    """Write a task of 18 clips of half a second and return its directory."""
    name = "noise-v1-test"
    directory = tmp_path / "tasks" / name
    rng = np.random.default_rng(0)
    splits = ("train", "valid", "test")
    for split in splits:
        folder = directory / "16000" / split
        folder.mkdir(parents=True)
        entries = {}
        for i in range(6):
            clip = f"{split}{i:03d}.wav"
            soundfile.write(folder / clip, 0.1 * rng.standard_normal(8000), 16000)
            entries[clip] = [i % 2]
        (directory / f"{split}.json").write_text(json.dumps(entries))
    (directory / "labelvocabulary.csv").write_text("idx,label\n0,0\n1,1\n")
    metadata = {
        "task_name": name,
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "trainvaltest",
        "splits": list(splits),
        "sample_duration": 0.5,
        "evaluation": ["top1_acc"],
    }
    (directory / "task_metadata.json").write_text(json.dumps(metadata))
    return directory
