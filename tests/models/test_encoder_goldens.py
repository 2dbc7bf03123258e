"""Every encoder against what the original systems computed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from golden_runners import run_case

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("MAMBABENCH_GOLDENS", ROOT / "../shared/goldens")) / "encoders"
INDEX = FOLDER / "INDEX.json"
CASES = [c["path"] for c in json.loads(INDEX.read_text())["cases"]] if INDEX.exists() else []


@pytest.mark.parametrize("path", CASES or ["none"])
def test_golden_encoders(path: str) -> None:
    if not CASES:
        pytest.skip(f"{INDEX} is absent: set MAMBABENCH_GOLDENS to the golden data")
    failures = []
    for name, measure, error, bound in run_case(FOLDER / path):
        if not error <= bound:
            failures.append(f"{name}: {measure} error {error:.3g} > {bound:g}")
    assert not failures, "\n".join(failures)
