"""Training against what the original systems' own training code computed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from golden_training import run_case

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("MAMBABENCH_GOLDENS", ROOT / "../shared/goldens")) / "training"
INDEX = FOLDER / "INDEX.json"
CASES = [c["path"] for c in json.loads(INDEX.read_text())["cases"]] if INDEX.exists() else []


@pytest.mark.parametrize("path", CASES or ["none"])
def test_golden_training(path: str) -> None:
    if not CASES:
        pytest.skip(f"{INDEX} is absent: set MAMBABENCH_GOLDENS to the golden data")
    compared = list(run_case(FOLDER / path))
    assert compared, "nothing was compared"
    failures = [f"{n}: error {e:.3g} > {b:g}" for n, e, b in compared if not e <= b]
    assert not failures, "\n".join(failures)
