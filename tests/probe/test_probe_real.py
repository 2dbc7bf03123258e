"""Probes on real recordings, through the verbs, against scikit-learn on the same embeddings."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from real_reference import logistic_regression

import mambabench
from mambabench.probe.data import TaskRows
from mambabench.store.open import list_stored_tasks
from mambabench.store.records import read_record, record_paths

TASKS = ["emodb_speaker-v1-full", "esc50-v2.0.0-esc10", "instr_pitch-v1-full", "wakeword6-v1-full"]


@pytest.fixture(scope="module")
def stored(test_data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an output folder with log-mel statistics of four real scene tasks."""
    root = tmp_path_factory.mktemp("real")
    unpack = [sys.executable, str(test_data_dir / "unpack.py"), str(root / "tasks"), *TASKS]
    subprocess.run(unpack, check=True, capture_output=True)
    mambabench.extract(encoder=["logmel_stats"], tasks=[root / "tasks"], out=root / "out", jobs=1)
    return root / "out"


@pytest.mark.slow
def test_sound_reaches_logistic_regression_less_three_points(stored: Path) -> None:
    run = mambabench.probe(2, "sound", out=stored)
    assert not run.failures
    scores: dict[str, list[float]] = {}
    for path in record_paths(stored):
        record = read_record(path)
        assert record.score is not None
        scores.setdefault(record.task, []).append(record.score)
    assert sorted(scores) == sorted(TASKS)
    for task in list_stored_tasks(stored):
        reference = logistic_regression(TaskRows(task, kit=False))
        assert np.mean(scores[task.task.name]) >= reference - 0.03, task.task.name


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_bytes(stored: Path, tmp_path: Path) -> None:
    """`kill -9` in the middle, then the same command; against a run on one thread."""
    command = [sys.executable, "-m", "mambabench", "probe", "--protocol", "sound", "--seeds", "2"]
    command += ["--task", "esc50-v2.0.0-esc10", "--task", "instr_pitch-v1-full"]
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "embeddings").symlink_to(stored / "embeddings")
    subprocess.run([*command, "--jobs", "1", "--out", str(tmp_path / "whole")], check=True)
    started = subprocess.Popen([*command, "--jobs", "2", "--out", str(tmp_path / "killed")])
    while not record_paths(tmp_path / "killed") and started.poll() is None:
        time.sleep(0.02)
    started.kill()
    started.wait()
    done = len(record_paths(tmp_path / "killed"))
    assert 1 <= done <= 4
    subprocess.run([*command, "--jobs", "2", "--out", str(tmp_path / "killed")], check=True)
    whole, killed = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name / "probes").rglob("seed-*")
            if "provenance" not in path.name
        }
        for name in ("whole", "killed")
    )
    assert len(whole) == 8
    assert killed == whole
