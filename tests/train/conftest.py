"""Small generated data for trainings: tars of log-mels, and labelled clips in AST's form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mambabench.train.tars import write_tar

N_CLIPS = 24
MIDS = ("/m/low", "/m/middle", "/m/high")


def write_tars(folder: Path, n_tars: int = 2, per_tar: int = 12) -> Path:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for t in range(n_tars):
        rows = [
            (
                f"clip{t}x{i}",
                rng.standard_normal((190 + 7 * i, 80)).astype(np.float32),
                np.array([i]),
            )
            for i in range(per_tar)
        ]
        write_tar(folder / f"{t:03d}.tar", rows)
    return folder


def write_lists(folder: Path, n: int = N_CLIPS, seconds: float = 0.7) -> Path:
    """Write tones of three pitches with noise, two thirds to train on, the rest to test."""
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(n):
        kind = i % 3
        time = np.arange(int(16000 * (seconds + 0.01 * (i % 4)))) / 16000
        tone = 0.3 * np.sin(2 * np.pi * (300, 1200, 4000)[kind] * time)
        wave = tone + 0.05 * rng.standard_normal(len(time))
        soundfile.write(folder / f"{i:02d}.wav", wave, 16000, subtype="PCM_16")
        rows.append({"wav": f"{i:02d}.wav", "labels": MIDS[kind]})
    cut = 2 * n // 3
    for name, part in (("train", rows[:cut]), ("test", rows[cut:])):
        (folder / f"{name}.json").write_text(json.dumps({"data": part}))
    lines = [f'{i},{mid},"{mid[3:]}"' for i, mid in enumerate(MIDS)]
    (folder / "labels.csv").write_text("index,mid,display_name\n" + "\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tars(tmp_path_factory.mktemp("tars"))


@pytest.fixture(scope="session")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lists(tmp_path_factory.mktemp("lists"))
