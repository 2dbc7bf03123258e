"""Fixtures that several rooms share: where the prepared material lies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent

os.environ["MAMBABENCH_PLUGINS"] = "0"  # what else is installed here changes no result

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


def _permuted(task: Any, split: str, seed: int = 1) -> Any:
    """Return the task with the labels of the clips of one split permuted among them."""
    clips = task.clips[split]
    order = np.random.default_rng(seed).permutation(len(clips))
    mixed = tuple(
        replace(clip, labels=clips[j].labels, events=clips[j].events)
        for clip, j in zip(clips, order, strict=True)
    )
    return replace(task, clips={**task.clips, split: mixed})


@pytest.fixture
def assert_blind() -> Callable[[Any, Callable[[Any], Any]], int]:
    """Give the check that no head follows from the labels of the clips that test it.

    It takes a k-fold task and a function that probes a task and returns a run record; every split's
    labels are permuted in turn. The heads tested there keep point, epoch and bytes; that they do
    trains something, since other heads change. It returns how many other heads did.
    """

    def check(task: Any, run: Callable[[Any], Any]) -> int:
        true = {fold.fold: fold for fold in run(task).folds}
        changed = 0
        for split in true:
            for fold in run(_permuted(task, split)).folds:
                known = true[fold.fold]
                if fold.fold != split:
                    changed += fold.head_sha256 != known.head_sha256
                    continue
                assert fold.grid_point == known.grid_point, split
                assert fold.head_sha256 == known.head_sha256, split
                assert fold.best_epoch == known.best_epoch, split
                assert fold.n_epochs == known.n_epochs, split
                assert fold.validation_score == known.validation_score, split
        return changed

    return check


@pytest.fixture(scope="session")
def cases() -> Path:
    """Folder of small inputs on which users met trouble, a folder each with what must happen."""
    return _material("MAMBABENCH_CASES", "../shared/cases")
