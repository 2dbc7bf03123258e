"""Cases of perf/probe.py: synthetic embeddings as a hear-eval-kit embeddings directory.

A mixture of Gaussians with sub-clusters, of low rank, warped by a GELU: accuracies of .6 to .8.
"""

from __future__ import annotations

import csv
import json
import pickle
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Case:
    """Sizes of a case."""

    name: str
    n_per_split: dict[str, int]
    dim: int
    n_labels: int
    noise: float


CASES = {
    "a": Case("a", {"train": 1200, "valid": 400, "test": 400}, 512, 50, 1.1),
    "b": Case("b", {f"fold{i:02d}": 47 for i in range(5)}, 384, 4, 1.5),
}


def write_case(case: Case, root: Path) -> Path:
    """Write `case` below `root` as the kit's own embeddings phase would; return its folder."""
    directory = root / "embeddings" / "synthetic" / f"case_{case.name}-v1-full"
    if (directory / ".done.embeddings").exists():
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(ord(case.name))
    centres = generator.normal(size=(case.n_labels, 3, 32))
    lift = generator.normal(size=(32, case.dim)) / np.sqrt(32)
    shuffled = random.Random(0)
    for split, n in case.n_per_split.items():
        label = generator.permutation(np.arange(n) % case.n_labels)
        low = centres[label, generator.integers(3, size=n)]
        low = low + case.noise * generator.normal(size=low.shape)
        rows = low @ lift + 0.1 * generator.normal(size=(n, case.dim))
        rows = (rows * 0.5 * (1 + np.tanh(0.8 * (rows + 0.045 * rows**3)))).astype(np.float32)
        names = [f"{split}-{i:05d}.wav" for i in range(n)]
        order = list(range(n))
        shuffled.shuffle(order)
        rows[order].tofile(directory / f"{split}.embeddings.npy")
        text = {name: [f"label{j:02d}"] for name, j in zip(names, label, strict=True)}
        (directory / f"{split}.json").write_text(json.dumps(text))
        (directory / f"{split}.embedding-dimensions.json").write_text(json.dumps([n, case.dim]))
        with (directory / f"{split}.target-labels.pkl").open("wb") as file:
            pickle.dump([text[names[i]] for i in order], file)
    _write_texts(case, directory)
    (directory / ".done.embeddings").touch()
    return directory


def _write_texts(case: Case, directory: Path) -> None:
    kfold = len(case.n_per_split) > 3
    metadata = {
        "task_name": f"case_{case.name}",
        "version": "v1",
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "new_split_kfold" if kfold else "trainvaltest",
        "splits": list(case.n_per_split),
        "nfolds": 5 if kfold else None,
        "sample_duration": 1.0,
        "evaluation": ["top1_acc", "mAP", "d_prime", "aucroc"],
    }
    (directory / "task_metadata.json").write_text(json.dumps(metadata))
    with (directory / "labelvocabulary.csv").open("w", newline="") as file:
        rows = [(i, f"label{i:02d}") for i in range(case.n_labels)]
        csv.writer(file).writerows([("idx", "label"), *rows])
