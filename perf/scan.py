"""Measure the selective scan against named peers on this machine.

    python -m venv peers && peers/bin/pip install -e . transformers mambapy
    peers/bin/python perf/scan.py            # CPU: forward, forward and backward, first call
    python perf/scan.py --gpu                # one GPU: against mamba_ssm's CUDA kernel
    python perf/scan.py --silence            # the last table alone: silence beside sound

Peers that are not installed are left out. Writes results/performance/scan.{json,md}.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import torch
from common import Timing, geometric_mean, rounds, write
from peers import loop_scan, parallel_scan, reference_scan, transformers_scan
from silence import TITLE, add_table, silence
from torch import Tensor

from mambabench.models.scan import selective_scan

SHAPES = {
    "SSAM-tiny, 1 segment": (1, 576, 251, 24),
    "SSAM-tiny, 8 segments": (8, 576, 251, 24),
    "SSAM-base, 1 segment": (1, 2304, 251, 24),
    "AuM/SSAMBA-tiny, 1 direction": (1, 384, 513, 16),
    "AuM/SSAMBA-base, 1 direction": (1, 1536, 513, 16),
    "DepMamba": (1, 1024, 4000, 12),
}
GOALS = {"reference": 60, "mambapy pscan": 150, "transformers": 50}
LEAST = {"reference": 50, "mambapy pscan": 120, "transformers": 44}  # no shape under 0.8 of it


def inputs(batch: int, dim: int, length: int, n: int, device: str = "cpu") -> dict[str, Tensor]:
    """Return inputs in our layout, as a model has them: B and C are slices of one projection."""
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(batch, length, 12 + 2 * n, generator=g).to(device)
    u, delta, z = (torch.randn(batch, length, dim, generator=g).to(device) for _ in range(3))
    A = -torch.arange(1.0, n + 1, device=device).repeat(dim, 1)
    ones = torch.ones(dim, device=device)
    return {"u": u, "delta": delta - 3, "A": A, "B": rows[..., 12 : 12 + n],
            "C": rows[..., 12 + n :], "D": ones, "z": z, "delta_bias": 0.1 * ones}  # fmt: skip


def channels_first(x: dict[str, Tensor]) -> list[Tensor]:
    """Return the same inputs in the peers' layout, ready made."""
    return [t.transpose(1, 2).contiguous() if t.ndim == 3 else t for t in x.values()]


def forward(n_rounds: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Time the forward of every shape; return the shapes' rows and those of the goals."""
    peers = {"reference": reference_scan, "mambapy pscan": parallel_scan(),
             "transformers": transformers_scan() or loop_scan}  # fmt: skip
    rows, ratios = [], {name: [] for name in peers}
    for title, shape in SHAPES.items():
        x = inputs(*shape)
        theirs = channels_first(x)
        y = selective_scan(**x, delta_softplus=True, backend="numba")
        calls = {"numba": lambda x=x: selective_scan(**x, delta_softplus=True, backend="numba")}
        calls["torch"] = lambda x=x: selective_scan(**x, delta_softplus=True, backend="torch")
        for name, peer in peers.items():
            if peer is not None:
                error = float((peer(*theirs).transpose(1, 2) - y).abs().max() / y.abs().max())
                assert error < 1e-4, (name, error)
                calls[name] = lambda peer=peer, theirs=theirs: peer(*theirs)
        with torch.inference_mode():
            found = rounds(calls, n_rounds, budget_s=25)
        ours = found["numba"]
        states = shape[0] * shape[1] * shape[2] * shape[3]
        row: dict[str, Any] = {"shape (batch, dim, length, states)": f"{title} {shape}"}
        row |= {"ours, ms": ours.median_ms, "ours, least": ours.least_ms, "spread": ours.spread}
        row["ns per 16 states"] = 1e6 * ours.median_ms / states * 16
        for name, timing in found.items():
            if name != "numba":
                row[f"{name}, x"] = timing.median_ms / ours.median_ms
                if name in ratios:
                    ratios[name].append(timing.median_ms / ours.median_ms)
        rows.append(row)
    goals = [
        {"peer": name, "geometric mean, x": geometric_mean(values), "goal": GOALS[name],
         "least shape, x": min(values), "bound of a shape": 0.8 * LEAST[name],
         "reached": geometric_mean(values) >= GOALS[name] and min(values) >= 0.8 * LEAST[name]}
        for name, values in ratios.items() if values
    ]  # fmt: skip
    return rows, goals


def training(n_rounds: int) -> list[dict[str, Any]]:
    """Time forward and backward together; peers go through autograd."""
    rows = []
    peers = {"reference": reference_scan, "mambapy pscan": parallel_scan()}
    for title in ("SSAM-tiny, 1 segment", "AuM/SSAMBA-tiny, 1 direction"):
        x = {n: t.clone().requires_grad_() for n, t in inputs(*SHAPES[title]).items()}
        theirs = [t.detach().clone().requires_grad_() for t in channels_first(x)]
        weights = torch.randn(x["u"].shape, generator=torch.Generator().manual_seed(1))
        turned = weights.transpose(1, 2).contiguous()

        def ours(x: Any = x, weights: Any = weights) -> tuple[Tensor, ...]:
            y = selective_scan(**x, delta_softplus=True, backend="numba")
            return torch.autograd.grad(y, list(x.values()), weights)

        calls = {"numba": ours}
        for name, peer in peers.items():
            if peer is not None:
                calls[name] = lambda peer=peer, theirs=theirs, turned=turned: torch.autograd.grad(
                    peer(*theirs), theirs, turned
                )
        found = rounds(calls, n_rounds, budget_s=25)
        row: dict[str, Any] = {"shape": title, "ours, ms": found["numba"].median_ms,
                               "spread": found["numba"].spread}  # fmt: skip
        for name in list(calls)[1:]:
            row[f"{name}, x"] = found[name].median_ms / found["numba"].median_ms
        rows.append(row | {"goal": "200 over the reference"})
    return rows


def bounds() -> list[dict[str, Any]]:
    """Compare the marginal cost of 16 states in cache with that of the FMA unit, in one run."""
    import numpy as np
    from numba import njit

    from mambabench.models.scan import kernels as k

    fma, fill, load, store = k._fma, k._fill, k._load, k._store

    @njit(nogil=True)
    def chains(kind, n, place):  # type: ignore[no-untyped-def]
        # ten chains of different values, or the compiler would keep only one
        a, b = load(kind, place, 0), load(kind, place, 16)
        c, d = load(kind, place, 32), load(kind, place, 48)
        e, f = load(kind, place, 64), load(kind, place, 80)
        g, h = load(kind, place, 96), load(kind, place, 112)
        i, j = load(kind, place, 128), load(kind, place, 144)
        x, y = fill(kind, 0.999), fill(kind, 0.001)
        for _ in range(n):
            a, b, c, d, e = fma(a, x, y), fma(b, x, y), fma(c, x, y), fma(d, x, y), fma(e, x, y)
            f, g, h, i, j = fma(f, x, y), fma(g, x, y), fma(h, x, y), fma(i, x, y), fma(j, x, y)
        for v in (a, b, c, d, e, f, g, h, i, j):
            store(place, 0, v)
            place += 64

    def ours(x: dict[str, Tensor]) -> Any:
        # without softplus the steps would be negative and the states grow to infinity
        return selective_scan(**x, delta_softplus=True, backend="numba")

    kind, place, turns = np.float32(0), torch.rand(160), 100_000
    few, many = inputs(1, 64, 128, 8), inputs(1, 64, 128, 40)
    found = rounds(
        {
            "fma": lambda: chains(kind, turns, place.data_ptr()),
            "few": lambda: [ours(few) for _ in range(50)],
            "many": lambda: [ours(many) for _ in range(50)],
        },
        40,
    )
    one = 1e6 * found["fma"].median_ms / (10 * turns)
    states = 50 * 64 * 128 * 32 / 16
    marginal = 1e6 * (found["many"].median_ms - found["few"].median_ms) / states
    # decay: step * rate, polynomial, table entry; then drive, state and output
    needed = 8 if k.HAS_TABLE else 9
    row = {"one vector FMA, ns": one, f"bound ({needed} FMA), ns": needed * one}
    row |= {"16 states in cache, ns": marginal, "of the bound": needed * one / marginal}
    return [row | {"spread": found["many"].spread}]


FIRST = """
import time; start = time.process_time(); import torch; a = time.process_time()
from mambabench.models.scan import selective_scan
u = torch.zeros(1, 251, 576); s = u[..., :24]
selective_scan(u, u, -torch.ones(576, 24), s, s, delta_softplus=True, backend="numba")
print(time.process_time() - a)
"""


def first_call() -> list[dict[str, Any]]:
    """Time the first call of a process, its imports beyond torch included, cold and cached."""
    times = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(4):
            environment = os.environ | {"NUMBA_CACHE_DIR": folder}
            done = subprocess.run([sys.executable, "-c", FIRST], env=environment, text=True,
                                  capture_output=True, check=True)  # fmt: skip
            times.append(float(done.stdout))
    return [{"cold, CPU s": times[0], "goal": 6, "cached, CPU s": min(times[1:]), "goal ": 1}]


def gpu(n_rounds: int) -> list[dict[str, Any]]:
    """Time the scan on a full GPU against mamba_ssm's CUDA kernel, in wall time of events."""
    from mambabench.models.scan import BACKENDS

    rows = []
    theirs = BACKENDS["mamba_ssm"].missing() is None
    for length, n, dim in ((251, 24, 2304), (513, 16, 1536)):
        for dtype in (torch.float32, torch.bfloat16):
            x = inputs(256, dim, length, n, "cuda")
            x = {k: t.to(dtype) if t.ndim == 3 else t for k, t in x.items()}
            calls = {"triton": lambda x=x: selective_scan(**x, delta_softplus=True)}
            if theirs:
                from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

                peer = channels_first(x)
                calls["mamba_ssm"] = lambda p=peer: selective_scan_fn(*p, True)
            with torch.inference_mode():
                found = {name: _events(call, n_rounds) for name, call in calls.items()}
            row = {"length": length, "states": n, "dtype": str(dtype),
                   "ours, ms": found["triton"].median_ms}  # fmt: skip
            row["mamba_ssm, x"] = (
                found["mamba_ssm"].median_ms / found["triton"].median_ms
                if theirs else "not measured: mamba_ssm is not installed"
            )  # fmt: skip
            rows.append(row)
    return rows


def _events(call: Any, n_rounds: int) -> Timing:
    times = []
    for _ in range(n_rounds + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(1e-3 * start.elapsed_time(end))
    return Timing.of(times[3:])


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--gpu", action="store_true", help="measure a GPU instead of the CPU")
    parser.add_argument("--silence", action="store_true", help="measure silence beside sound only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.silence:
        add_table(silence(options.rounds))
        return
    if options.gpu:
        write("scan_gpu", "python perf/scan.py --gpu", {"Forward": gpu(options.rounds)})
        return
    begun = time.monotonic()
    shapes, goals = forward(options.rounds)
    write(
        "scan",
        "python perf/scan.py",
        {
            "Forward, ratios of peers to ours": shapes,
            "Forward, goals": goals,
            "Forward and backward": training(options.rounds),
            "Distance from the machine": bounds(),
            "First call": first_call(),
            "GPU": [
                {"against mamba_ssm": "not measured: no GPU", "static counts": "gpu_static.json"}
            ],
            TITLE: silence(options.rounds),
        },
    )
    print(f"{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
