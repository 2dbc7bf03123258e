"""What silence costs: times on decaying, faded and zero-padded sound over those on loud sound.

Subnormal numbers, which such signals lead to, slow arithmetic many times down on some processors.
`perf/scan.py --silence` writes this table alone, beside the others of results/performance/scan.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from common import RESULTS, machine, markdown, rounds
from torch import Tensor

from mambabench.models.registry import load_encoder
from mambabench.models.scan import causal_conv1d, selective_scan
from mambabench.probe.heads import exact_kernels, kernels

TITLE = "Silence: times over those on loud sound"
LENGTH, DIM, STATES = 1900, 64, 16
ENCODERS = ("ssam_tiny_random", "aum_tiny_random", "ssamba_tiny_random")


def clip() -> Tensor:
    """Return two seconds of real sound at 16 kHz, [samples], peak 1."""
    base = Path(__file__).resolve().parents[1] / "../shared/data"
    folder = Path(os.environ.get("MAMBABENCH_TEST_DATA", base)) / "hear_small"
    (archive,) = folder.glob("*esc50*-16000.tar.gz")
    with tarfile.open(archive) as tar:
        loudest, power = None, 0.0
        for member in [m for m in tar if m.name.endswith(".wav")][:40]:
            file = tar.extractfile(member)
            assert file is not None
            samples, _ = soundfile.read(io.BytesIO(file.read()), dtype="float32")
            if float(np.square(samples).mean()) > power:
                loudest, power = samples, float(np.square(samples).mean())
    assert loudest is not None
    return torch.from_numpy(loudest / np.abs(loudest).max())


def quieted(x: Tensor, axis: int) -> dict[str, Tensor]:
    """Return `x` loud, faded out by 900 dB, and with zeros after a tenth of it, along `axis`."""
    n = x.shape[axis]
    shape = [n if i == axis else 1 for i in range(x.ndim)]
    fade = torch.logspace(0, -45, n, dtype=torch.float64).reshape(shape)
    padded = x.clone()
    padded.narrow(axis, n // 10, n - n // 10).zero_()
    return {"loud": x, "faded": (x.double() * fade).float(), "zero-padded": padded}


def kernel_signals() -> dict[str, Tensor]:
    """Return inputs [1, LENGTH, DIM] of windows of the clip, and an impulse."""
    frames = clip().unfold(0, DIM, 16)[:LENGTH].clone()[None]
    impulse = torch.zeros_like(frames)
    impulse[:, 0] = 1.0
    return quieted(frames, 1) | {"impulse": impulse}


def _scans() -> dict[str, Callable[[Tensor, str], Any]]:
    steps, A = torch.full((1, LENGTH, DIM), 0.5), -torch.ones(DIM, STATES)
    ones, weight = torch.ones(1, LENGTH, STATES), torch.rand(DIM, 4) + 0.1

    def scan(u: Tensor, backend: str) -> Any:
        return selective_scan(u, steps, A, ones, ones, backend=backend)

    def conv(u: Tensor, backend: str) -> Any:
        return causal_conv1d(u, weight, None, "silu", backend=backend)

    def with_gradients(function: Any) -> Any:
        def run(u: Tensor, backend: str) -> Any:
            leaf = u.clone().requires_grad_()
            function(leaf, backend).backward(u)

        return run

    return {"scan, forward": scan, "scan, forward and backward": with_gradients(scan),
            "convolution, forward": conv,
            "convolution, forward and backward": with_gradients(conv)}  # fmt: skip


def _row(what: str, way: str, calls: dict[str, Callable[[], Any]], n_rounds: int) -> dict[str, Any]:
    found = rounds(calls, n_rounds, budget_s=20)
    row: dict[str, Any] = {"what": what, "by": way, "loud, ms": found["loud"].median_ms}
    for name in ("impulse", "faded", "zero-padded"):
        row[f"{name}, x"] = found[name].median_ms / found["loud"].median_ms if name in found else ""
    return row


def _probe_rows(n_rounds: int) -> list[dict[str, Any]]:
    """Adam's step on moments as they are, and 1e-39 times that: units whose gradients ended."""
    rows, one = [], np.float32(1.0)
    for way in ("probe kernels", "exact probe kernels (torch's bits)"):
        calls = {}
        for name, scale in (("loud", 1.0), ("faded", 1e-39)):
            g = np.random.default_rng(0).normal(size=1 << 18).astype(np.float32)
            arrays = [(scale * x).astype(np.float32) for x in (g, g, g * g)]
            if way == "probe kernels":
                weight = g.copy()
                calls[name] = lambda a=arrays, w=weight: kernels.adam_step(
                    w, a[0], a[1].copy(), a[2].copy(), np.float32(1e-3), one, one
                )
            else:
                calls[name] = lambda a=arrays: exact_kernels.adam_moments(
                    a[0], a[1].copy(), a[2].copy()
                )
        rows.append(_row("Adam's step", way, calls, n_rounds))
    return rows


def silence(n_rounds: int) -> list[dict[str, Any]]:
    """Measure kernels, probe kernels and whole encoders; every row names its machine."""
    rows = []
    signals = kernel_signals()
    for what, function in _scans().items():
        for backend in ("numba", "torch"):
            calls = {
                name: lambda f=function, u=u, b=backend: f(u, b) for name, u in signals.items()
            }
            rows.append(_row(what, backend, calls, n_rounds if backend == "numba" else 3))
    rows += _probe_rows(n_rounds)
    with torch.inference_mode():
        for name in ENCODERS:
            encoder = load_encoder(name, device="cpu")
            calls = {
                kind: lambda e=encoder, x=x: e.scene(x[None], None)
                for kind, x in quieted(clip(), 0).items()
            }
            rows.append(_row("encoder, 2 s of audio", name, calls, 5))
    cpu = machine()["cpu"]
    return [row | {"processor": cpu} for row in rows]


def add_table(rows: list[dict[str, Any]]) -> None:
    """Put the table into results/performance/scan.{json,md} and leave the others as they are."""
    path = RESULTS / "scan.json"
    content = json.loads(path.read_text())
    content["tables"][TITLE] = rows
    path.write_text(json.dumps(content, indent=2) + "\n")
    path = path.with_suffix(".md")
    text = path.read_text().split(f"\n### {TITLE}\n")[0]
    path.write_text(f"{text}\n### {TITLE}\n\n{markdown(rows)}")
    print(markdown(rows))
