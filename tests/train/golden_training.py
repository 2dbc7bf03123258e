"""Runners of the golden cases of training: a case directory in, (name, error, bound) out.

Everything comes from the case itself; a kind without a runner here fails the test.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

Found = Iterator[tuple[str, float, float]]  # what is compared, its error, its bound


@dataclass(frozen=True)
class Case:
    """One golden case, read."""

    directory: Path
    settings: dict[str, Any]

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        with np.load(self.directory / f"{name}.npz", allow_pickle=False) as file:
            return {key: file[key] for key in file.files}

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        return load_file(self.directory / f"{name}.safetensors")

    def bound(self, name: str) -> float:
        """Return the number in the tolerance's text, e.g. "relative 1e-5" or "<= 2e-4"."""
        tolerance = self.settings["tolerance"]
        text = tolerance.get(name, tolerance.get("all", ""))
        if text.startswith("exact"):
            return 0.0
        found = re.findall(r"\d+(?:\.\d+)?e-?\d+|\d+\.\d+", text)
        return float(found[0])


def relative(ours: Any, theirs: Any) -> float:
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert a.shape == b.shape, (a.shape, b.shape)
    if a.size == 0:
        return 0.0
    return float(np.max(np.abs(a - b) / np.maximum(np.abs(b), 1e-300)))


def absolute(ours: Any, theirs: Any) -> float:
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert a.shape == b.shape, (a.shape, b.shape)
    return float(np.max(np.abs(a - b))) if a.size else 0.0


def same(ours: Any, theirs: Any) -> float:
    return 0.0 if ours == theirs else 1.0


def peak(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return max|a-b| / max|b|."""
    scale = float(theirs.abs().max())
    return float((ours - theirs).abs().max()) / scale if scale else float(ours.abs().max())


def run_case(directory: Path) -> Found:
    """Compare one case with the product; every output by name."""
    from golden_training_data import RUNNERS as DATA
    from golden_training_loops import RUNNERS as LOOPS

    runners: Mapping[str, Callable[[Case], Found]] = {**DATA, **LOOPS}
    settings = json.loads((directory / "case.json").read_text())
    kind = settings["kind"]
    assert kind in runners, f"no runner for kind {kind!r}"
    yield from runners[kind](Case(directory, settings))
