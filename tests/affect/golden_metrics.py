"""Run the golden metrics files: four decimals, NaN as the string "nan", exceptions by name."""

from __future__ import annotations

import builtins
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mambabench.benchmarks.depression.scores import confusion, published_scores
from mambabench.benchmarks.sentiment.metrics import sentiment_scores


def run(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    for case in document["cases"]:
        compute = _sentiment if "dataset" in case else _depmamba
        wanted = case["outputs"]
        if "raises" in wanted:
            with pytest.raises(getattr(builtins, wanted["raises"])):
                compute(case)
            continue
        got = compute(case)
        assert set(got) == set(wanted), case["name"]
        for name, value in wanted.items():
            if value == "nan":
                assert math.isnan(got[name]), f"{case['name']} {name}"
            else:
                assert round(got[name], 4) == pytest.approx(round(value, 4), abs=1e-9), (
                    f"{case['name']} {name}"
                )


def _numbers(values: Any, dtype: Any) -> np.ndarray:
    return np.array(values, dtype=float).astype(dtype)  # understands the string "nan"


def _sentiment(case: dict[str, Any]) -> dict[str, float]:
    classes = case["mode"] == "classification"
    true = _numbers(case["inputs"]["true"], np.int64 if classes else np.float32)
    return sentiment_scores(_numbers(case["inputs"]["pred"], np.float32), true, case["dataset"])


def _depmamba(case: dict[str, Any]) -> dict[str, float]:
    logits = torch.from_numpy(_numbers(case["inputs"]["logits"], np.float32))
    labels = torch.tensor(case["inputs"]["labels"])
    total = sum(
        F.binary_cross_entropy_with_logits(a, b.float()).item() * len(a)
        for a, b in zip(
            logits.split(case["inputs"]["batch_size"]),
            labels.split(case["inputs"]["batch_size"]),
            strict=True,
        )
    )
    counts = confusion((logits > 0).numpy(), labels.numpy())
    return {"loss": total / len(labels), **published_scores(counts)}
