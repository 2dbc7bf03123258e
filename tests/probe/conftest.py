"""Stored tasks made of numbers, so that probes are tested without audio and encoders."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mambabench.benchmarks.task import Clip, Event, Task
from mambabench.probe import chosen, data
from mambabench.store.embeddings import EmbeddingSet, StoredTask


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@dataclass
class Shelf:
    """Stored tasks and their embeddings, in place of a folder."""

    stored: list[StoredTask] = field(default_factory=list)
    sets: dict[tuple[str, str, str], EmbeddingSet] = field(default_factory=dict)

    def add(self, task: Task, sets: dict[str, EmbeddingSet], encoder: str = "toy") -> StoredTask:
        stored = StoredTask(Path("toy"), encoder, "0" * 64, task, None, {})
        self.stored.append(stored)
        for split, embeddings in sets.items():
            self.sets[encoder, task.name, split] = embeddings
        return stored

    def content_sha256(self, stored: StoredTask) -> str:
        digest = hashlib.sha256()
        for split in stored.task.splits:
            digest.update(self.read(stored, split).embeddings.tobytes())
        return digest.hexdigest()

    def read(self, stored: StoredTask, split: str) -> EmbeddingSet:
        return self.sets[stored.encoder, stored.task.name, split]


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """Replace the embedding store by one in memory."""
    shelf = Shelf()
    monkeypatch.setattr(
        chosen, "list_stored_tasks", lambda out, layout="store": tuple(shelf.stored)
    )
    monkeypatch.setattr(data, "read_embeddings", shelf.read)
    monkeypatch.setattr(data, "content_sha256", shelf.content_sha256)
    return shelf


def scene_task(
    name: str = "blobs-v1-full",
    *,
    n_folds: int = 0,
    n: int = 60,
    n_labels: int = 3,
    dim: int = 12,
    multilabel: bool = False,
    spread: float = 1.5,
    seed: int = 0,
    **changes: Any,
) -> tuple[Task, dict[str, EmbeddingSet]]:
    """Return Gaussian blobs, `n` clips a split: k folds, or train, valid and test."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(n_labels, dim))
    splits = tuple(f"fold{i:02d}" for i in range(n_folds)) or ("train", "valid", "test")
    clips, sets = {}, {}
    labels = tuple(f"label{i}" for i in range(n_labels))
    for split in splits:
        if multilabel:
            hot = generator.random((n, n_labels)) < 0.4
            rows = hot @ centres + spread * generator.normal(size=(n, dim))
        else:
            hot = np.eye(n_labels, dtype=bool)[generator.permutation(np.arange(n) % n_labels)]
            rows = hot @ centres + spread * generator.normal(size=(n, dim))
        names = tuple(f"{split}-{i:03d}.wav" for i in range(n))
        clips[split] = tuple(
            Clip(clip, tuple(labels[j] for j in np.flatnonzero(row)))
            for clip, row in zip(names, hot, strict=True)
        )
        sets[split] = EmbeddingSet(
            split, names, rows.astype(np.float32)[:, None, :], np.arange(n + 1), None
        )
    values: dict[str, Any] = {
        "name": name,
        "directory": Path("toy"),
        "embedding_type": "scene",
        "prediction_type": "multilabel" if multilabel else "multiclass",
        "split_mode": "new_split_kfold" if n_folds else "trainvaltest",
        "splits": splits,
        "sample_duration_s": 1.0,
        "evaluation": ("mAP", "aucroc") if multilabel else ("top1_acc", "mAP", "d_prime", "aucroc"),
        "labels": labels,
        "clips": clips,
        "sample_rates_hz": (),
    }
    return Task(**(values | changes)), sets


def event_task(
    name: str = "beeps-v1-full",
    *,
    n_clips: int = 6,
    n_frames: int = 80,
    n_labels: int = 3,
    dim: int = 10,
    seed: int = 0,
    n_folds: int = 0,
    **changes: Any,
) -> tuple[Task, dict[str, EmbeddingSet]]:
    """Return clips of frames every 50 ms with a few events of 300 to 800 ms each."""
    generator = np.random.default_rng(seed)
    codes = 2 * generator.normal(size=(n_labels, dim))
    labels = tuple(f"sound{i}" for i in range(n_labels))
    clips, sets = {}, {}
    splits = tuple(f"fold{i:02d}" for i in range(n_folds)) or ("train", "valid", "test")
    for split in splits:
        names = tuple(f"{split}-{i}.wav" for i in range(n_clips))
        rows, listed = [], []
        times = np.arange(n_frames, dtype=np.float32) * 50
        for clip in names:
            events = []
            frames = generator.normal(size=(n_frames, dim))
            for _ in range(4):
                start = float(generator.integers(0, n_frames - 16)) * 50
                end = start + float(generator.integers(6, 16)) * 50
                label = int(generator.integers(n_labels))
                events.append(Event(labels[label], start, end))
                frames[(times >= start) & (times <= end)] += codes[label]
            listed.append(Clip(clip, events=tuple(events)))
            rows.append(frames)
        clips[split] = tuple(listed)
        sets[split] = EmbeddingSet(
            split,
            names,
            np.concatenate(rows).astype(np.float32)[:, None, :],
            np.arange(n_clips + 1) * n_frames,
            np.tile(times, n_clips),
        )
    values: dict[str, Any] = {
        "name": name,
        "directory": Path("toy"),
        "embedding_type": "event",
        "prediction_type": "multilabel",
        "split_mode": "new_split_kfold" if n_folds else "trainvaltest",
        "splits": splits,
        "sample_duration_s": n_frames * 0.05,
        "evaluation": ("event_onset_200ms_fms", "segment_1s_er"),
        "labels": labels,
        "clips": clips,
        "sample_rates_hz": (),
    }
    return Task(**(values | changes)), sets


@pytest.fixture
def scene() -> Callable[..., tuple[Task, dict[str, EmbeddingSet]]]:
    """Give the maker of scene tasks."""
    return scene_task


@pytest.fixture
def event() -> Callable[..., tuple[Task, dict[str, EmbeddingSet]]]:
    """Give the maker of timestamp tasks."""
    return event_task
