"""`kill -9` in the middle of a recurrent head, then the same command: the same bytes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from trees import TREES

import mambabench
from mambabench.benchmarks.superb.prepare import prepare
from mambabench.store.records import record_paths

STEPS, EVERY = 120, 10
SCRIPT = f"""
import sys
from dataclasses import replace

import mambabench
from mambabench.probe import frame_training
from mambabench.probe.protocols import superb

frame_training.SNAPSHOT_EVERY_S = 0.0  # after every step
for name in ("ASR", "SF", "SD"):
    few = dict(total_steps={STEPS}, evaluations={STEPS // EVERY}, width=8, batch_size=4)
    superb.RECIPES[name] = replace(superb.RECIPES[name], accumulation=1, **few)
loop = frame_training.FrameLoop
run = loop.run

def told(self, *rest):
    self._restore()
    print("begins at", self.step, flush=True)
    run(self, *rest)

loop.run = told
mambabench.probe(1, "superb-clean", out=sys.argv[1], jobs=1)
"""


def probe(out: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(out)],
        stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True,
    )  # fmt: skip


def results(out: Path) -> dict[str, bytes]:
    """Every file of the records but those that say when and where."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted((out / "probes").rglob("seed-*"))
        if path.is_file() and "provenance" not in path.name
    }


@pytest.mark.slow
@pytest.mark.parametrize("task", ["superb_asr", "superb_sf", "superb_sd"])
def test_a_killed_head_goes_on_to_the_same_bytes(task, tmp_path):
    prepare(task, TREES[task](tmp_path / "corpus", 8), tmp_path / "tasks")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    mambabench.extract(["logmel_stats"], [tmp_path / "tasks"], out=whole, jobs=1)
    shutil.copytree(whole / "embeddings", killed / "embeddings")
    plain, cut = probe(whole), probe(killed)
    seen: set[int] = set()
    while len(seen) < 15 and cut.poll() is None:  # fifteen of its snapshots were there
        seen |= {path.stat().st_mtime_ns for path in (killed / "probes").rglob("*.pt")}
        time.sleep(0.002)
    os.killpg(cut.pid, signal.SIGKILL)
    assert cut.wait() == -signal.SIGKILL
    cut.communicate()
    assert not record_paths(killed)
    assert list((killed / "probes").rglob("*.pt"))
    again = probe(killed)
    said, _ = again.communicate()
    assert again.returncode == 0
    begins = [int(line.split()[-1]) for line in said.splitlines() if line.startswith("begins at")]
    assert 0 < begins[0] < STEPS
    plain.communicate()
    assert plain.returncode == 0
    assert len(results(whole)) == 2  # the record and its predictions
    assert results(killed) == results(whole)
