"""Speed and memory of training: steps, data loading, memory against length.

    python perf/train.py            # prints Markdown; --out FILE writes it, --quick for a look

Every ratio is measured in one run on one thread: SSAM-tiny and AuM-tiny with our scan kernels
against the same model on the reference scan under autograd; the share of a step's time in which the
compute thread works while two workers read; peak memory of a step against the clips' length.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import soundfile
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mambabench.models.blocks.initialise import initialise
from mambabench.models.encoders.aum import AumConfiguration, AumEncoder
from mambabench.models.encoders.ssam import SsamConfiguration, SsamEncoder
from mambabench.models.scan.backends import VARIABLE
from mambabench.train.encoder_settings import AumSettings, SsamSettings
from mambabench.train.loop import Work
from mambabench.train.optimise import adamw, all_in_one
from mambabench.train.ranks import Ranks
from mambabench.train.supervised import recompute
from mambabench.train.system import Call
from mambabench.train.systems.aum import SYSTEM as AUM
from mambabench.train.systems.ssam import SYSTEM
from mambabench.train.tars import write_tar


def ssam(frames: int = 200) -> tuple[torch.nn.Module, torch.Tensor]:
    model = SsamEncoder(SsamConfiguration(192, img_size=(frames, 80)))
    initialise(model, 0, 12)
    return model.train(), torch.randn(4, 1, frames, 80)


def aum(frames: int = 1024) -> tuple[torch.nn.Module, torch.Tensor]:
    c = AumConfiguration(192, depth=24, spectrogram_size=(128, frames), num_classes=10)
    model = AumEncoder(c)
    initialise(model, 0, 24)
    return model.train(), torch.randn(1, frames, 128)


def loss_of(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    if isinstance(model, SsamEncoder):
        return model.pretrain(x, torch.rand(len(x), model.configuration.n_patches)).loss
    return model(x).square().mean()


def step_seconds(model: torch.nn.Module, x: torch.Tensor, rounds: int) -> list[float]:
    """Return the seconds of forward, backward and AdamW, after a warm-up."""
    optimiser = adamw(all_in_one(model, 0.01), 1e-4, (0.9, 0.999))
    seconds = []
    for _ in range(rounds + 1):
        begun = time.process_time()
        optimiser.zero_grad(set_to_none=True)
        loss_of(model, x).backward()
        optimiser.step()
        seconds.append(time.process_time() - begun)
    return seconds[1:]


class Products(TorchDispatchMode):
    """Count what matrix products take, and what they compute."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = self.flop = 0.0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        begun = time.thread_time()
        result = function(*args, **(kwargs or {}))
        if function in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            self.seconds += time.thread_time() - begun
            a, b = args[-2:]
            self.flop += 2.0 * a.shape[0] * a.shape[1] * b.shape[1]
        return result


def products(model: torch.nn.Module, x: torch.Tensor) -> tuple[float, float]:
    """Return the CPU seconds of a step's matrix products, and their GFLOP/s."""
    seen = []
    for _ in range(3):
        with Products() as found:
            loss_of(model, x).backward()
        seen.append(found)
    best = min(seen, key=lambda one: one.seconds)
    return best.seconds, best.flop / best.seconds / 1e9


def peak_rate() -> float:
    """Return the GFLOP/s of a large square product on this thread."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    seconds = []
    for _ in range(8):
        begun = time.thread_time()
        torch.mm(a, b)
        seconds.append(time.thread_time() - begun)
    return 2 * 1024**3 / min(seconds) / 1e9


def steps(quick: bool) -> Iterator[str]:
    """Compare the step on our kernels with the reference scan, in turns; and its products alone,
    which the reference has too: the last ratio is what a step of nothing else would reach."""
    yield (
        "| model | ours, CPU s per step | reference, CPU s per step | ratio (medians) "
        "| matrix products of both, CPU s | their GFLOP/s | ratio, were they all |"
    )
    yield "|---|---|---|---|---|---|---|"
    rounds = 1 if quick else 3
    for name, make in (("SSAM-tiny, 4 clips of 2 s", ssam), ("AuM-tiny, 1 clip of 10 s", aum)):
        ours: list[float] = []
        theirs: list[float] = []
        model, x = make()
        for _ in range(rounds):
            os.environ.pop(VARIABLE, None)
            ours += step_seconds(model, x, 2)
            os.environ[VARIABLE] = "reference"
            theirs += step_seconds(model, x, 1)
        os.environ.pop(VARIABLE, None)
        a, b = statistics.median(ours), statistics.median(theirs)
        spread = f"{min(ours):.3f} to {max(ours):.3f}"
        both, rate = products(model, x)
        yield (
            f"| {name} | {a:.3f} ({spread}) | {b:.2f} | {b / a:.1f} "
            f"| {both:.3f} | {rate:.0f} | {b / both:.1f} |"
        )
    yield ""
    yield f"A product of two 1024 x 1024 matrices on this thread: {peak_rate():.0f} GFLOP/s."


def loading(quick: bool) -> Iterator[str]:
    """Share of the loop's time in which the compute thread is not waiting for clips."""
    yield "| training | workers | share of the time that computes | clips/s |"
    yield "|---|---|---|---|"
    with tempfile.TemporaryDirectory() as folder:
        tars, audio = Path(folder, "tars"), Path(folder, "audio")
        log_mels(tars, 64 if quick else 256)
        waves(audio, 12 if quick else 24)
        for workers in (0, 2):
            settings = SsamSettings(depth=2, batch_size=16, epochs=1, ranks=1, workers=workers)
            data = SYSTEM.open_data(settings, [str(tars)])
            prepared = SYSTEM.prepare(settings, data, "", 0, Path(folder), Call())
            yield f"| SSAM, 2 blocks, log-mels from tars | {workers} | {computing(prepared.work)} |"
        for workers in (0, 2):
            augmented = AumSettings(
                batch_size=4, epochs=1, workers=workers, mixup=0.5, freqm=48, timem=192, noise=True
            )
            lists = AUM.open_data(augmented, [str(audio)])
            prepared = AUM.prepare(augmented, lists, lists.folds[0], 0, Path(folder), Call())
            yield f"| AuM-tiny, waves of 10 s, mixup | {workers} | {computing(prepared.work)} |"


def computing(work: Work) -> str:
    """Run an epoch; return the share of its time without waits, and clips a second."""
    work.model.train()
    waited = 0.0
    begun = last = time.perf_counter()
    n_steps = 0
    for step in work.source.steps(0, 0, Ranks(), 1):
        now = time.perf_counter()
        if n_steps == 0:  # the workers' start
            begun = now
        else:
            waited += now - last
        n_steps += 1
        for batch in step.parts:
            work.objective(work.model, batch).loss.backward()
        work.optimiser.step()
        work.optimiser.zero_grad(set_to_none=True)
        last = time.perf_counter()
    total = last - begun
    return f"{1 - waited / total:.3f} | {n_steps * work.source.batch_size / total:.1f}"


def log_mels(folder: Path, n: int) -> None:
    """Write `n` log-mels of 10 s in four tars."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for t in range(4):
        rows = (
            (f"c{t}x{i}", rng.standard_normal((1001, 80)).astype(np.float32), np.array([0]))
            for i in range(n // 4)
        )
        write_tar(folder / f"{t}.tar", rows)


def waves(folder: Path, n: int) -> None:
    """Write `n` waves of 10 s of two classes, and lists of them."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    rows = []
    for i in range(n):
        soundfile.write(folder / f"{i}.wav", 0.1 * rng.standard_normal(160_000), 16000)
        rows.append({"wav": f"{i}.wav", "labels": f"/m/{i % 2}"})
    for name, own in (("train", rows), ("valid", rows[:2])):
        (folder / f"{name}.json").write_text(json.dumps({"data": own}))
    (folder / "labels.csv").write_text("index,mid,display_name\n0,/m/0,a\n1,/m/1,b\n")


def memory(quick: bool) -> Iterator[str]:
    """Peak memory of one training step in a process of its own, plain and recomputing."""
    yield "| model | seconds of audio | peak MiB of a step | with checkpointing |"
    yield "|---|---|---|---|"
    lengths = (256, 1024) if quick else (256, 512, 1024, 2048, 4096)
    for frames in lengths:
        cells = []
        for flag in ("0", "1"):
            words = [sys.executable, __file__, "--peak", str(frames), flag]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            cells.append(f"{float(done.stdout):.0f}")
        yield f"| AuM-tiny | {frames / 100:g} | {cells[0]} | {cells[1]} |"


def peak(frames: int, again: bool) -> float:
    """Return MiB that a step adds to what this process holds, gradients included (Linux)."""
    small, y = aum(64)  # kernels compiled, libraries loaded
    loss_of(small, y).backward()
    model, x = aum(frames)
    recompute(model, again)
    del small, y
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what is free goes back, so that it counts again
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    loss_of(model, x).backward()
    return (_status("VmHWM") - before) / 1024


def _status(key: str) -> int:
    """Return a line of /proc/self/status in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(key)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--peak", nargs=2)
    parser.add_argument("--only", choices=["steps", "loading", "memory"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak:
        print(peak(int(arguments.peak[0]), arguments.peak[1] == "1"))
        return
    lines = ["# Training: speed and memory", ""]
    for title, part in (
        ("A step on one thread", steps),
        ("Reading beside the step", loading),
        ("Memory against length", memory),
    ):
        if arguments.only not in (None, part.__name__):
            continue
        lines += [f"## {title}", "", *part(arguments.quick), ""]
    text = "\n".join(lines)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
