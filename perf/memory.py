"""Measure time and memory of a forward against the number of tokens, on one CPU thread.

    python perf/memory.py          # also draws results/performance/length.png (matplotlib)

Tiny models on random weights, one clip, random tokens straight into the blocks. SSAST is SSAM's
transformer twin, once with the whole attention matrix and once with torch's fused attention.
Lengths up to 8192 are measured; longer ones are computed from a polynomial through the longest
measured ones (linear for Mamba, quadratic for attention) and marked so. Writes
results/performance/memory.{json,md}.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from common import RESULTS, write
from models import WIDTH, plain_weights
from peers import slow_block
from torch import Tensor, nn

from mambabench.models.blocks.block import Block, run_pairs, run_sequence
from mambabench.models.blocks.mixer import MixerConfiguration
from mambabench.models.blocks.transformer import TransformerBlock

MEASURED = (512, 1024, 2048, 4096, 8192)
COMPUTED = (22_000, 24_000)
PAPER = {"time": 13.7, "memory": 21.7}  # SSAMBA's 92.7 % and 95.4 % less, at 22k tokens, batch 4


def _naive(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention with its whole matrix in memory."""
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    return scores.softmax(dim=-1) @ value


def _mamba(n: int, expand: int, depth: int, directions: str, rms: bool) -> nn.Module:
    mixer = MixerConfiguration(WIDTH["tiny"], n, 4, expand, directions)
    return plain_weights(nn.ModuleList(Block(mixer, 1e-5, rms) for _ in range(depth)))


def models() -> dict[str, tuple[Callable[[Tensor], Any], int]]:
    """Return each model as a function of tokens, and the degree of its cost in their number."""
    ssam = _mamba(24, 3, 12, "none", False)
    aum = _mamba(16, 2, 24, "v1", True)
    ssamba = _mamba(16, 2, 24, "v2", False)
    twin = plain_weights(
        nn.ModuleList(TransformerBlock(WIDTH["tiny"], 3, 4.0, 1e-6) for _ in range(12))
    )

    def run(blocks: Any, pairs: bool = False) -> Callable[[Tensor], Any]:
        walk = run_pairs if pairs else run_sequence

        def call(tokens: Tensor) -> None:
            for _ in walk(blocks, tokens):
                pass

        return call

    def naive(tokens: Tensor) -> None:
        with mock.patch("torch.nn.functional.scaled_dot_product_attention", _naive):
            run(twin)(tokens)

    def reference(tokens: Tensor) -> None:
        with mock.patch.object(Block, "forward", slow_block):
            run(ssam)(tokens)

    return {
        "SSAM": (run(ssam), 1), "SSAMBA": (run(ssamba, True), 1), "AuM": (run(aum), 1),
        "SSAST, naive attention": (naive, 2), "SSAST, fused attention": (run(twin), 2),
        "SSAM, reference scan": (reference, 1),
    }  # fmt: skip


def _status(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


def measure(call: Callable[[Tensor], Any], length: int) -> tuple[float, float]:
    """Return CPU seconds and peak MiB above what was there before the call."""
    tokens = torch.randn(1, length, WIDTH["tiny"], generator=torch.Generator().manual_seed(0))
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    with torch.no_grad():
        start = time.thread_time()
        call(tokens)
        elapsed = time.thread_time() - start
    return elapsed, _status("VmHWM") - before


def median_of_three(call: Callable[[Tensor], Any], length: int) -> tuple[float, float]:
    """Return the medians of three measurements: what the allocator keeps differs by a fifth."""
    seconds, megabytes = zip(*(measure(call, length) for _ in range(3)), strict=True)
    return statistics.median(seconds), statistics.median(megabytes)


def extended(lengths: list[int], values: list[float], degree: int, at: int) -> float:
    """Continue the longest measured values by a polynomial of the degree."""
    import numpy as np

    n = degree + 1
    fit = np.polynomial.Polynomial.fit(lengths[-n:], values[-n:], degree)
    return float(fit(at))


def main() -> None:
    """Measure, extend, draw and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--longest", type=int, default=MEASURED[-1])
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    curves: dict[str, list[tuple[int, float, float, bool]]] = {}
    lengths = [n for n in MEASURED if n <= options.longest]
    for name, (call, degree) in models().items():
        measure(call, 64)  # compiles, packs, touches
        mine = [n for n in lengths if name != "SSAM, reference scan" or n <= 2048]
        found = [median_of_three(call, n) for n in mine]
        points = [(n, t, m, True) for n, (t, m) in zip(mine, found, strict=True)]
        for n in COMPUTED:
            seconds, megabytes = (extended(mine, [f[i] for f in found], degree, n) for i in (0, 1))
            points.append((n, seconds, megabytes, False))
        curves[name] = points
        rows += [
            {"model": name, "tokens": n, "s": t, "MiB": m, "": "measured" if real else "computed"}
            for n, t, m, real in points
        ]
        print(name, points, flush=True)
    write("memory", "python perf/memory.py", {"Forward, tiny models, batch 1": rows,
          "At 22k tokens, from batch 1 (batch 4: four times both)": compare(curves)})  # fmt: skip
    draw(curves)


def compare(curves: dict[str, list[tuple[int, float, float, bool]]]) -> list[dict[str, Any]]:
    """Return how much less time and memory than either attention, computed at 22k tokens."""
    at = {name: next(p for p in points if p[0] == COMPUTED[0]) for name, points in curves.items()}
    rows = []
    for name in ("SSAM", "SSAMBA", "AuM"):
        row: dict[str, Any] = {"model": name}
        for kind in ("naive", "fused"):
            other = at[f"SSAST, {kind} attention"]
            row[f"faster than {kind}, x"] = other[1] / at[name][1]
            row[f"less memory than {kind}, x"] = other[2] / at[name][2]
        rows.append(row | {"goal, time": PAPER["time"], "goal, memory": PAPER["memory"]})
    return rows


def draw(curves: dict[str, list[tuple[int, float, float, bool]]]) -> None:
    """Plot time and memory against tokens, computed points hollow."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for index, (name, points) in enumerate(curves.items()):
        for column, axis in zip((1, 2), axes, strict=True):
            x, y = [p[0] for p in points], [p[column] for p in points]
            axis.loglog(x, y, color=f"C{index}", label=name)
            real = [p for p in points if p[3]]
            axis.loglog([p[0] for p in real], [p[column] for p in real], "o", color=f"C{index}")
    for axis, label in zip(axes, ("CPU seconds, one thread", "peak MiB"), strict=True):
        axis.set(xlabel="tokens (dots: measured)", ylabel=label)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(RESULTS / "length.png", dpi=120)


if __name__ == "__main__":
    main()
