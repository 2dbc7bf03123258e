"""The exact stream against a bare torch program that draws as hear-eval-kit does."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mambabench.probe.verb import probe
from mambabench.store.records import read_record, record_paths


def _fit(
    dropout: float, split: dict[str, tuple[torch.Tensor, torch.Tensor]], n_labels: int
) -> tuple[float, int, int]:
    """Return best score, best epoch and epochs of one fit, drawing from the global generator."""
    rows, labels = split["train"]
    layers: list[nn.Module] = []
    for fan_in, out, gain in ((rows.shape[1], 1024, 1.0), (1024, n_labels, math.sqrt(2.0))):
        linear = nn.Linear(fan_in, out)
        nn.init.xavier_normal_(linear.weight, gain)
        layers.append(linear)
    torch.rand(64, rows.shape[1])
    net = nn.Sequential(layers[0], nn.BatchNorm1d(1024), nn.Dropout(dropout), nn.ReLU(), layers[1])
    adam = torch.optim.Adam(net.parameters(), lr=1e-4)
    best, best_epoch, waited, epoch = -1.0, -1, 0, -1
    for epoch in range(500):
        torch.empty((), dtype=torch.int64).random_()
        net.train()
        adam.zero_grad()
        nn.functional.cross_entropy(net(rows), labels).backward()
        adam.step()
        if (epoch + 1) % 3:
            continue
        torch.empty((), dtype=torch.int64).random_()
        net.eval()
        with torch.no_grad():
            hits = net(split["valid"][0]).argmax(1) == split["valid"][1]
        score = float(hits.double().mean())
        best, best_epoch, waited = (
            (score, epoch, 0) if score > best else (best, best_epoch, waited + 1)
        )
        if waited == 20:
            break
    return best, best_epoch, epoch + 1


@pytest.mark.parametrize("seed", [0, 1])
def test_ssam2024_exact_draws_as_the_kit(shelf: Any, scene: Any, tmp_path: Path, seed: int) -> None:
    task, sets = scene(n_folds=3, n=30, spread=1.2)
    shelf.add(task, sets)
    probe(seed + 1, "ssam2024", exact=True, out=tmp_path, jobs=1)
    record = read_record(record_paths(tmp_path)[seed])

    order = random.Random(0)
    parts = []
    for split in task.splits:
        shuffled = list(range(30))
        order.shuffle(shuffled)
        labels = [task.labels.index(task.clips[split][i].labels[0]) for i in shuffled]
        rows = np.asarray(sets[split].embeddings[shuffled, 0])
        parts.append((torch.from_numpy(rows), torch.tensor(labels)))
    folds = [{"train": parts[(i + 2) % 3], "valid": parts[(i + 1) % 3]} for i in range(3)]
    points = [0.1, 0.25]
    random.Random(seed).shuffle(points)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        grid = [_fit(dropout, folds[0], 3) for dropout in points]
        winner = max(range(2), key=lambda i: (grid[i][0], -i))
        expected = [grid[winner], *(_fit(points[winner], fold, 3) for fold in folds[1:])]
    found = [(f.validation_score, f.best_epoch, f.n_epochs) for f in record.folds]
    assert found == expected
    assert record.folds[0].grid_point["dropout"] == points[winner]
