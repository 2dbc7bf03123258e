"""Kill trainings with SIGKILL at random moments, continue them, and compare the weights' bytes.

    python perf/train_kill.py            # ten kills per system; Markdown, --out FILE writes it

Each attempt is a process of its own that trains on generated clips, one thread, and writes its
state at every step. It is killed a random time after it has written a random number of states (0
to 2), so that kills fall into reading, forward, backward, evaluation and writing alike; after the
last kill it may end. The weights must be those of a run that nobody disturbed, bit for bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import soundfile
import torch

from mambabench.benchmarks.depression.generated import generate
from mambabench.train.generated import provide
from mambabench.train.settings import MmmlSettings
from mambabench.train.sources import Sources
from mambabench.train.tars import write_tar
from mambabench.train.verb import train, train_encoder

SMALL = {"embed_dim": 16, "depth": 2, "workers": 0, "batch_size": 8, "lr": 1e-3}
SSAM = {"ranks": 1, "n_frames": 40, "warmup_epochs": 1}
LISTED = {"n_frames": 64, "warmup": False}
MIDS = ("/m/low", "/m/middle", "/m/high")


def make_clips(folder: Path) -> None:
    """Write tars of log-mels, lists of labelled tones, and a small corpus of sessions."""
    rng = np.random.default_rng(0)
    (folder / "tars").mkdir()
    for t in range(2):
        rows = [(f"c{t}x{i}", rng.standard_normal((200, 80)).astype(np.float32), np.array([0]))
                for i in range(16)]  # fmt: skip
        write_tar(folder / "tars" / f"{t}.tar", rows)
    (folder / "lists").mkdir()
    rows = []
    for i in range(36):
        tone = np.sin(2 * np.pi * (300, 1200, 4000)[i % 3] * np.arange(12000) / 16000)
        wave = 0.3 * tone + 0.05 * rng.standard_normal(12000)
        soundfile.write(folder / "lists" / f"{i}.wav", wave, 16000, subtype="PCM_16")
        rows.append({"wav": f"{i}.wav", "labels": MIDS[i % 3]})
    for name, part in (("train", rows[:27]), ("test", rows[27:])):
        (folder / "lists" / f"{name}.json").write_text(json.dumps({"data": part}))
    lines = [f"{i},{mid},{mid[3:]}" for i, mid in enumerate(MIDS)]
    (folder / "lists" / "labels.csv").write_text("\n".join(["index,mid,display_name", *lines]))
    generate(folder / "corpus", seed=0)
    lines = (folder / "corpus" / "labels.csv").read_text().splitlines()
    kept = [line for split, n in (("train", 24), ("valid", 8), ("test", 4))
            for line in [x for x in lines if x.endswith(f",{split}")][:n]]  # fmt: skip
    (folder / "corpus" / "labels.csv").write_text("\n".join([lines[0], *kept]) + "\n")
    provide(MmmlSettings(task="generated"), Sources(), folder / "fusion")  # corpus and stores


def trainings(clips: Path) -> dict[str, Callable[[Path], Any]]:
    """Return system -> what trains it into a folder, continuing what is there."""

    def encoder(system: str, data: str, own: dict[str, Any]) -> Callable[[Path], Any]:
        return lambda out: train_encoder(
            system, data=[clips / data], settings={**SMALL, **own}, out=out, resume=True,
            save_steps=1, device="cpu",
        )  # fmt: skip

    depmamba = {
        "task": "generated", "mm_input_size": 8, "mm_output_sizes": (8,), "d_state": 2,
        "expand": 1, "d_conv": 2, "epochs": 40, "lr": 0.01, "dropout": 0.2,
    }  # fmt: skip
    mmml = {
        "task": "generated", "fusion": "cc", "hidden": 32, "middle": 32, "lr": 0.01,
        "batch_size": 32, "early_stop": 60, "max_epochs": 60, "dropout": 0.1,
    }  # fmt: skip
    return {
        "ssam": encoder("ssam", "tars", {**SSAM, "d_state": 8, "epochs": 10}),
        "ssast": encoder("ssast", "tars", {**SSAM, "epochs": 10}),
        "ssamba": encoder("ssamba", "lists", {**LISTED, "masks": 12, "evaluate_every": 5,
                                              "epochs": 14}),
        "aum": encoder("aum", "lists", {**LISTED, "mixup": 0.5, "balanced": True, "epochs": 14}),
        "depmamba": lambda out: train(
            "depmamba", data=clips / "corpus", settings=depmamba, out=out, seeds=[0], resume=True
        ),
        "mmml": lambda out: train(
            "mmml", data=clips / "fusion" / "generated" / "sentiment", store=clips / "fusion",
            encoder="logmel_stats", text_encoder="words:64", settings=mmml, out=out, seeds=[0],
            resume=True,
        ),
    }  # fmt: skip


def start(work: Callable[[Path], Any], out: Path) -> int:
    """Run a training in a process of its own; return its number."""
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        torch.set_num_threads(1)
        work(out)
        code = 0
    finally:
        os._exit(code)


def ended(number: int) -> bool:
    """Tell whether the process is over; RuntimeError where it failed of itself."""
    found, status = os.waitpid(number, os.WNOHANG)
    if found and status:
        raise RuntimeError(f"the training failed with status {status}")
    return bool(found)


def states(out: Path) -> list[int]:
    """Return when the states below a folder were written."""
    found = []
    for path in out.rglob("state.safetensors"):
        try:
            found.append(path.stat().st_mtime_ns)
        except FileNotFoundError:  # the run has just ended
            continue
    return sorted(found)


def killed(work: Callable[[Path], Any], out: Path, rng: random.Random) -> bool:
    """Start or continue a training and kill it; return False where it ended before."""
    number, wanted, seen, known = start(work, out), rng.randrange(3), 0, states(out)
    while seen < wanted:
        if ended(number):
            return False
        now = states(out)
        seen, known = seen + (now != known), now
        time.sleep(0.001)
    until = time.monotonic() + rng.uniform(0, 0.5)
    while time.monotonic() < until:
        if ended(number):
            return False
        time.sleep(0.001)
    os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)
    return True


def weights(out: Path) -> str:
    """Return the hash of the weights that a finished run left."""
    (path,) = out.rglob("weights.safetensors")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Kill, continue, compare, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--systems", nargs="*")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    lines = ["| system | kills | cut off with a state to continue from | same weights |",
             "|---|---|---|---|"]  # fmt: skip
    wrong = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_clips(folder)
        for system, work in trainings(folder).items():
            if arguments.systems and system not in arguments.systems:
                continue
            rng, out, n, continued = random.Random(system), folder / "out" / system, 0, 0
            while n < arguments.kills and killed(work, out / "killed", rng):
                n += 1
                continued += bool(states(out / "killed"))
            for part in ("killed", "whole"):
                number = start(work, out / part)
                while not ended(number):
                    time.sleep(0.01)
            same = weights(out / "killed") == weights(out / "whole")
            wrong |= not same
            lines.append(f"| {system} | {n} | {continued} | {'yes' if same else 'NO'} |")
            print(lines[-1], file=sys.stderr, flush=True)
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text)
    sys.exit(wrong)


if __name__ == "__main__":
    main()
