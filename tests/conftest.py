"""Fixtures that several rooms share: where the prepared material lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _material(variable: str, default: str) -> Path:
    folder = Path(os.environ.get(variable, ROOT / default)).resolve()
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: set {variable} to the prepared material")
    return folder


@pytest.fixture(scope="session")
def goldens_dir() -> Path:
    """Folder of golden data, with `encoders` and `affect` below."""
    return _material("MAMBABENCH_GOLDENS", "../shared/goldens")


@pytest.fixture(scope="session")
def test_data_dir() -> Path:
    """Folder of real audio: `unpack.py` and `hear_small`."""
    return _material("MAMBABENCH_TEST_DATA", "../shared/data")
