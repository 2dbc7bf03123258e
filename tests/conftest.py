"""Fixtures that several rooms share: where the prepared material lies."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A job that a script starts in the background ignores Ctrl-C, and so would every program that it
# starts: tests that interrupt one would wait for its end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture(scope="session")
def cases() -> Path:
    """Folder of small inputs on which users met trouble, a folder each with what must happen."""
    return _material("MAMBABENCH_CASES", "../shared/cases")
