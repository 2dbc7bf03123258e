"""Every golden case of SUPERB's sequence tasks, by the runner of its kind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from golden_superb import RUNNERS, load

_ROOT = Path(os.environ.get("MAMBABENCH_GOLDENS", "../shared/goldens"))
_INDEX = _ROOT / "superb" / "INDEX.json"
CASES = (
    [case["path"] for case in json.loads(_INDEX.read_text())["cases"]] if _INDEX.is_file() else []
)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.mark.skipif(not CASES, reason=f"no golden cases at {_INDEX}: set MAMBABENCH_GOLDENS")
@pytest.mark.parametrize("path", CASES or ["none"])
def test_golden(path):
    folder = _ROOT / "superb" / path
    case = load(folder)
    assert case["kind"] in RUNNERS, f"{path}: no runner for kind {case['kind']}"
    RUNNERS[case["kind"]](case, folder)
