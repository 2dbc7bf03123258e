"""Cases of perf/probe.py: synthetic embeddings as a hear-eval-kit embeddings directory.

A mixture of Gaussians with sub-clusters, of low rank, warped by a GELU: accuracies of .6 to .8.
(a) and (b) are timed; (m), (u) and (l) are replayed for their metric: mAP of multilabel clips, AUC
of two labels (sizes as Beehive's), and a task that stops on the validation loss.
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
    metric: str = "top1_acc"
    multilabel: bool = False
    on_loss: bool = False  # stop on the validation loss, as MAESTRO


CASES = {
    "a": Case("a", {"train": 1200, "valid": 400, "test": 400}, 512, 50, 1.1),
    "b": Case("b", {f"fold{i:02d}": 47 for i in range(5)}, 384, 4, 1.5),
    "m": Case(
        "m", {"train": 300, "valid": 100, "test": 100}, 128, 8, 1.3, metric="mAP", multilabel=True
    ),
    "u": Case("u", {"train": 256, "valid": 32, "test": 288}, 128, 2, 2.5, metric="aucroc"),
    "l": Case("l", {"train": 300, "valid": 100, "test": 100}, 128, 10, 1.1, on_loss=True),
}
TIMED = ("b", "a")


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
        hot = np.eye(case.n_labels, dtype=bool)[label]
        low = centres[label, generator.integers(3, size=n)]
        if case.multilabel:
            hot, low = _two_labels(case, generator, centres, label, low)
        low = low + case.noise * generator.normal(size=low.shape)
        rows = low @ lift + 0.1 * generator.normal(size=(n, case.dim))
        rows = (rows * 0.5 * (1 + np.tanh(0.8 * (rows + 0.045 * rows**3)))).astype(np.float32)
        names = [f"{split}-{i:05d}.wav" for i in range(n)]
        order = list(range(n))
        shuffled.shuffle(order)
        rows[order].tofile(directory / f"{split}.embeddings.npy")
        text = {
            name: [f"label{j:02d}" for j in np.flatnonzero(row)]
            for name, row in zip(names, hot, strict=True)
        }
        (directory / f"{split}.json").write_text(json.dumps(text))
        (directory / f"{split}.embedding-dimensions.json").write_text(json.dumps([n, case.dim]))
        with (directory / f"{split}.target-labels.pkl").open("wb") as file:
            pickle.dump([text[names[i]] for i in order], file)
    _write_texts(case, directory)
    (directory / ".done.embeddings").touch()
    return directory


def _two_labels(
    case: Case,
    generator: np.random.Generator,
    centres: np.ndarray,
    label: np.ndarray,
    low: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Give half of the rows a second label: return [n, n_labels] bool and the rows with both."""
    n = len(label)
    second = np.where(generator.random(n) < 0.5, generator.integers(case.n_labels, size=n), label)
    hot = np.eye(case.n_labels, dtype=bool)[label] | np.eye(case.n_labels, dtype=bool)[second]
    other = centres[second, generator.integers(3, size=n)]
    return hot, np.where((second != label)[:, None], low + other, low)


def _write_texts(case: Case, directory: Path) -> None:
    kfold = len(case.n_per_split) > 3
    metadata = {
        "task_name": f"case_{case.name}",
        "version": "v1",
        "embedding_type": "scene",
        "prediction_type": "multilabel" if case.multilabel else "multiclass",
        "split_mode": "new_split_kfold" if kfold else "trainvaltest",
        "splits": list(case.n_per_split),
        "nfolds": 5 if kfold else None,
        "sample_duration": 1.0,
        "evaluation": [
            case.metric,
            *(m for m in ("top1_acc", "mAP", "d_prime", "aucroc") if m != case.metric),
        ],
    }
    if case.on_loss:
        metadata["use_scoring_for_early_stopping"] = False
    (directory / "task_metadata.json").write_text(json.dumps(metadata))
    with (directory / "labelvocabulary.csv").open("w", newline="") as file:
        rows = [(i, f"label{i:02d}") for i in range(case.n_labels)]
        csv.writer(file).writerows([("idx", "label"), *rows])
