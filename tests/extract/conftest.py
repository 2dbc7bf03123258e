"""Small tasks and small HEAR providers for the tests of extraction."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import mambabench

PROVIDER = '''
"""A tiny encoder: fixed random projections of frames of 400 samples, hop 20 ms."""
import os
import time
import torch

FAULT = {fault!r}
WIDTH = {width}


class Model(torch.nn.Module):
    sample_rate = {rate}
    scene_embedding_size = WIDTH
    timestamp_embedding_size = WIDTH

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.projection = torch.nn.Parameter(torch.randn(400, WIDTH, generator=generator))


def load_model(model_file_path=""):
    if not model_file_path:
        return Model(1).eval()
    with open(model_file_path) as file:
        return Model(int(file.read())).eval()


def frames(audio, model):
    hop = model.sample_rate // 50
    return (audio.unfold(1, 400, hop) @ model.projection).tanh()


def get_timestamp_embeddings(audio, model):
    if FAULT == "sleep":
        time.sleep(0.05)
    values = frames(audio, model)
    times = 12.5 + 20.0 * torch.arange(values.shape[1]).repeat(len(audio), 1)
    if FAULT == "times" and audio.shape[1] == 7777:
        times = times[:, :-1]
    return values, times


def get_scene_embeddings(audio, model):
    if FAULT == "sleep":
        time.sleep(0.05)
    if FAULT == "raise" and audio.shape[1] == 7777:  # not what is probed when it is loaded
        raise ValueError("no such luck")
    if FAULT == "raise_quiet" and (audio.abs().amax(1) < 1e-3).any():
        raise ValueError("too quiet for me")
    if FAULT == "memory" and len(audio) > 2:
        raise MemoryError("tried to allocate too much")
    values = frames(audio, model).mean(1)
    if FAULT == "width" and audio.shape[1] == 7777:
        values = values[:, :-1]
    if FAULT == "nan":
        values = torch.where(audio.abs().amax(1, keepdim=True) < 1e-3, float("nan"), values)
    print("providers may print")
    return values
'''


@pytest.fixture
def provider(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes a provider and returns its path."""

    def write(fault: str = "", *, width: int = 6, rate: int = 16000, name: str = "enc") -> str:
        path = tmp_path / f"{name}.py"
        path.write_text(PROVIDER.format(fault=fault, width=width, rate=rate))
        return str(path)

    return write


@pytest.fixture
def make_task(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a task with noise for audio and returns its directory."""

    def make(
        name: str = "noise-v1-test",
        *,
        lengths: Sequence[int] = (8000,) * 6,
        kind: str = "scene",
        rate: int = 16000,
        root: Path | None = None,
        suffix: str = ".wav",
    ) -> Path:
        directory = (root or tmp_path / "tasks") / name
        splits = ("train", "valid", "test")
        rng = np.random.default_rng(0)
        same = len(set(lengths)) == 1
        metadata = {
            "task_name": name,
            "embedding_type": kind,
            "prediction_type": "multiclass" if kind == "scene" else "multilabel",
            "split_mode": "trainvaltest",
            "splits": list(splits),
            "sample_duration": lengths[0] / rate if same else None,
            "evaluation": ["top1_acc"] if kind == "scene" else ["event_onset_200ms_fms"],
        }
        for split in splits:
            folder = directory / str(rate) / split
            folder.mkdir(parents=True)
            entries: dict[str, Any] = {}
            for i, length in enumerate(lengths):
                clip = f"{split}{i:03d}.wav"
                audio = 0.1 * rng.standard_normal(length)
                soundfile.write(folder / Path(clip).with_suffix(suffix), audio, rate)
                event = {"label": "b", "start": 100.0, "end": 200.0 + i}
                entries[clip] = [i % 2] if kind == "scene" else [event]
            (directory / f"{split}.json").write_text(json.dumps(entries))
        labels = "0,0\n1,1\n" if kind == "scene" else "0,a\n1,b\n"
        (directory / "labelvocabulary.csv").write_text("idx,label\n" + labels)
        (directory / "task_metadata.json").write_text(json.dumps(metadata))
        return directory

    return make


RESULTS_ONLY = (
    *("provenance.json", ".mambabench-provenance.json", "profile.embeddings.json"),
    *("audio-seen.json", ".mambabench-audio-seen.json"),
)


@pytest.fixture
def result_bytes() -> Callable[[Path], dict[str, bytes]]:
    """Return a function that reads all files of a folder that are results."""

    def read(folder: Path) -> dict[str, bytes]:
        files = (p for p in folder.rglob("*") if p.is_file() and p.name not in RESULTS_ONLY)
        return {str(p.relative_to(folder)): p.read_bytes() for p in files}

    return read


@pytest.fixture
def start_command() -> Callable[..., subprocess.Popen[str]]:
    """Return a function that starts the command line in a process of its own."""

    def start(*arguments: str | Path) -> subprocess.Popen[str]:
        root = str(Path(mambabench.__file__).parent.parent)
        environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", "mambabench", *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start
