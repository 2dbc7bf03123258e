"""The documented generated runs: fusion beats each side alone by 15 points, intervals apart."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import t

from mambabench.train.evaluate import evaluate
from mambabench.train.verb import train


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generated")


def _accuracies(out: Path, system: str, recipe: str) -> dict[str, np.ndarray]:
    """Row -> test accuracy of five seeds, in points."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        done = train(system, recipe=recipe, out=out)
    finally:
        torch.set_num_threads(threads)
    assert not done.failed
    found: dict[str, np.ndarray] = {}
    for folder in {seed.folder.parent for seed in done.seeds}:
        (row,) = evaluate(folder, n_resamples=20).rows
        values: Any = [100 * seed["acc"] for seed in row["result"]["per_seed"]]
        found[folder.name.removeprefix(f"{recipe}-")] = np.array(values)
    return found


def _interval(values: np.ndarray) -> tuple[float, float]:
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return values.mean() - half, values.mean() + half


@pytest.mark.slow
@pytest.mark.parametrize(
    ("system", "recipe", "fused", "alone"),
    [
        ("depmamba", "generated-depmamba", "both", ("audio", "video")),
        *(
            ("mmml", f"generated-{name}", "fused", ("text", "audio"))
            for name in ("cc", "v1", "v2", "v3")
        ),
    ],
)
def test_fusion_beats_each_side_alone(
    out: Path, system: str, recipe: str, fused: str, alone: tuple[str, str]
) -> None:
    found = _accuracies(out, system, recipe)
    assert all(len(values) == 5 for values in found.values())
    for side in alone:
        assert found[fused].mean() - found[side].mean() >= 15, (recipe, found)
        assert _interval(found[fused])[0] > _interval(found[side])[1], (recipe, found)
