"""The GPU kernels: interpreted on tiny shapes, compiled without a GPU, run where there is one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mambabench.models.scan import (
    Direction,
    causal_conv1d,
    selective_scan,
    selective_scan_bidirectional,
)

ROOT = Path(__file__).resolve().parents[2]
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="triton is absent: pip install triton==3.7.1 (beside CPU builds of torch too)",
)
INTERPRETED = """
import torch
from mambabench.models.scan import *
g = torch.Generator().manual_seed(0)
def normal(*shape):
    return torch.randn(*shape, generator=g)
def relative(a, b):
    return float((a.double() - b.double()).abs().max() / b.double().abs().max())
def make(batch, length, dim, n):
    return dict(u=normal(batch, length, dim), delta=normal(batch, length, dim) - 1,
        A=-torch.exp(normal(dim, n) / 2), B=normal(batch, length, n), C=normal(batch, length, n),
        D=normal(dim), z=normal(batch, length, dim), delta_bias=normal(dim))
"""
FORWARD = """
for shape in ((2, 19, 33, 3), (1, 1, 32, 1), (1, 0, 32, 2), (1, 9, 40, 17)):
    for reverse in (False, True):
        x = make(*shape)
        options = dict(delta_softplus=True, reverse=reverse, return_last_state=True)
        y, last = selective_scan(**x, **options, backend="triton")
        wide = {k: v.double() for k, v in x.items()}
        expected, state = selective_scan(**wide, **options, backend="reference")
        assert y.shape == expected.shape and last.shape == state.shape
        if y.numel():
            assert relative(y, expected) < 2e-6 and relative(last, state) < 2e-6, shape
bare = {k: v for k, v in x.items() if k not in ("D", "z", "delta_bias")}
bare["delta"] = bare["delta"].abs()
assert relative(*(selective_scan(**bare, backend=b) for b in ("triton", "reference"))) < 2e-6
x = {k: v.bfloat16() if v.ndim == 3 else v for k, v in make(1, 11, 32, 4).items()}
y = selective_scan(**x, delta_softplus=True, backend="triton")
wide = {k: v.double() for k, v in x.items()}
expected = selective_scan(**wide, delta_softplus=True, backend="reference")
assert y.dtype == torch.bfloat16 and relative(y, expected) < 2**-7  # it cuts, hardware rounds
names = ("u", "delta", "A", "B", "C", "D", "delta_bias")
a, b = make(1, 11, 40, 4), make(1, 11, 40, 4)
pair = [Direction(*(s[k] for k in names)) for s in (a, b)]
found, expected = (
    selective_scan_bidirectional(*pair, a["z"], True, 0.5, n) for n in ("triton", "reference")
)
assert relative(found, expected) < 2e-6
"""
BACKWARD = """
for reverse in (False, True):
    x = make(2, 11, 33, 3)
    options = dict(delta_softplus=True, reverse=reverse, return_last_state=True)
    leaves = [{k: v.to(t).requires_grad_() for k, v in x.items()}
              for t in (torch.float32, torch.float64)]
    weights = normal(2, 11, 33), normal(2, 33, 3)
    gradients = []
    for named, backend in zip(leaves, ("triton", "reference")):
        y, last = selective_scan(**named, **options, backend=backend)
        loss = (y * weights[0]).sum() + (last * weights[1]).sum()
        gradients.append(torch.autograd.grad(loss, list(named.values())))
    for name, a, b in zip(x, *gradients):
        assert relative(a, b) < 2e-6, name
"""
CONVOLUTION = """
from mambabench.models.scan import gpu_kernels
x, w, v, bias, other = normal(2, 21, 70), normal(70, 4), normal(70, 4), normal(70), normal(70)
for reverse in (False, True):
    y, expected = (causal_conv1d(x, w, bias, "silu", reverse, n) for n in ("triton", "reference"))
    assert relative(y, expected) < 1e-6
    both = gpu_kernels.conv_forward(x, w, bias, True, reverse, v, other)
    assert torch.equal(both[0], y)
    assert relative(both[1], causal_conv1d(x, v, other, "silu", not reverse, "reference")) < 1e-6
t = [a[:1, :5, :4].clone().requires_grad_() for a in (x,)] + [w[:4].clone().requires_grad_()]
grads = [torch.autograd.grad(causal_conv1d(*t, None, "silu", False, n).square().sum(), t)
         for n in ("triton", "reference")]
for a, b in zip(*grads):
    assert relative(a, b) < 1e-5
"""


@needs_triton
@pytest.mark.parametrize(
    "part", [FORWARD, BACKWARD, CONVOLUTION], ids=["forward", "backward", "conv"]
)
def test_interpreted_kernels_equal_the_reference(part):
    environment = os.environ | {
        "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED + part], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]


def _static():
    if str(ROOT / "perf") not in sys.path:
        sys.path.append(str(ROOT / "perf"))  # what it imports lies beside it
    spec = importlib.util.spec_from_file_location("gpu_static", ROOT / "perf/gpu_static.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_static"] = module
    spec.loader.exec_module(module)
    return module


# registers, instructions per state: what the compiler reaches today, with little room above.
# A program of one warp with r registers a thread leaves 65536 / 32 / r warps a processor.
BOUNDS = {
    "forward, 16 states, full GPU": (200, 10.5),
    "forward, 16 states, full GPU, bf16": (200, 11),
    "forward, 24 states, full GPU": (200, 10),
    "forward, 16 states, small batch": (128, 14),
    "reverse, added and gated, 16 states": (216, 10.5),
    "forward for training, 16 states": (216, 11),
    "backward": (232, 62),
    "backward, bf16": (232, 66),
    "convolution, both directions": (128, None),
}


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("name", BOUNDS)
def test_kernels_compile_without_spills(name, capability):
    static = _static()
    (case,) = (c for c in static.CASES if c.name == name)
    found = static.count(case, capability)
    registers, instructions = BOUNDS[name]
    assert (found.spill_bytes, found.stack_bytes) == (0, 0)
    # older hardware copies more; no spills is what counts there
    assert found.registers <= (registers if capability >= 90 else 255)
    assert instructions is None or 1 < found.instructions_per_state <= instructions


def test_every_compiled_case_has_a_bound():
    assert {c.name for c in _static().CASES} == set(BOUNDS)


STUB = '''
"""Stands in for mamba_ssm where its extension is not installed: the same call, by the formula."""
import torch
def selective_scan_fn(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False,
                      return_last_state=False):
    assert all(t is None or t.is_contiguous() for t in (u, delta, B, C, z))
    delta = delta + delta_bias[:, None]
    delta = torch.nn.functional.softplus(delta) if delta_softplus else delta
    h, ys = torch.zeros(u.shape[0], u.shape[1], A.shape[1]), []
    for t in range(u.shape[2]):
        h = torch.exp(delta[:, :, t, None] * A) * h
        h = h + (delta[:, :, t] * u[:, :, t])[..., None] * B[:, None, :, t]
        ys.append((h * C[:, None, :, t]).sum(-1))
    y = torch.stack(ys, 2) + u * D[:, None]
    return y * torch.nn.functional.silu(z), h
'''


@pytest.mark.parametrize("reverse", [False, True])
def test_the_mamba_ssm_backend_turns_layouts(tmp_path, monkeypatch, reverse):
    folder = tmp_path / "mamba_ssm/ops"
    folder.mkdir(parents=True)
    for path in (tmp_path / "mamba_ssm/__init__.py", folder / "__init__.py"):
        path.write_text("")
    (folder / "selective_scan_interface.py").write_text(STUB)
    monkeypatch.syspath_prepend(tmp_path)
    from mambabench.models.scan import extension

    x = _inputs(2, 13, 32, 4)
    y, last = extension.scan(*x.values(), True, reverse)
    for name in [m for m in sys.modules if m.split(".")[0] == "mamba_ssm"]:
        monkeypatch.delitem(sys.modules, name)
    options = {"delta_softplus": True, "reverse": reverse, "return_last_state": True}
    expected, state = selective_scan(**x, **options, backend="reference")
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(last, state, rtol=1e-5, atol=1e-5)
    conv = extension.conv(x["u"], torch.ones(32, 4), x["D"], True, reverse)
    expected = causal_conv1d(x["u"], torch.ones(32, 4), x["D"], "silu", reverse, "reference")
    torch.testing.assert_close(conv, expected)


def _inputs(batch, length, dim, d_state, device="cpu", dtype=torch.float32):
    g = torch.Generator().manual_seed(0)

    def normal(*shape):
        x = torch.randn(*shape, generator=g).to(device)
        return x.to(dtype) if len(shape) == 3 else x

    return {
        "u": normal(batch, length, dim), "delta": normal(batch, length, dim) - 1,
        "A": -torch.exp(normal(dim, d_state) / 2), "B": normal(batch, length, d_state),
        "C": normal(batch, length, d_state), "D": normal(dim), "z": normal(batch, length, dim),
        "delta_bias": normal(dim),
    }  # fmt: skip


def _relative(a, b):
    return float((a.double() - b.double()).abs().max() / b.double().abs().max())


@pytest.mark.gpu
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 5e-6), (torch.bfloat16, 2**-7)])
@pytest.mark.parametrize("shape", [(2, 251, 576, 24), (16, 513, 1536, 16), (1, 1, 48, 12)])
def test_gpu_scan(shape, dtype, bound, reverse):
    x = _inputs(*shape, "cuda", dtype)
    options = {"delta_softplus": True, "reverse": reverse, "return_last_state": True}
    y, last = selective_scan(**x, **options, backend="triton")
    wide = {n: t.double() for n, t in x.items()}
    expected, state = selective_scan(**wide, **options, backend="torch")
    assert (y.dtype, last.dtype) == (dtype, torch.float32)
    assert _relative(y, expected) < bound
    assert _relative(last, state) < 5e-6


@pytest.mark.gpu
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 2**-6)])
def test_gpu_gradients(reverse, dtype, bound):
    x = {n: t.requires_grad_() for n, t in _inputs(2, 251, 96, 16, "cuda", dtype).items()}
    wide = {n: t.detach().double().requires_grad_() for n, t in x.items()}
    options = {"delta_softplus": True, "reverse": reverse}
    found = torch.autograd.grad(
        selective_scan(**x, **options, backend="triton").float().square().sum(), list(x.values())
    )
    expected = torch.autograd.grad(
        selective_scan(**wide, **options, backend="torch").square().sum(), list(wide.values())
    )
    for name, a, b in zip(x, found, expected, strict=True):
        assert _relative(a, b) < bound, name


@pytest.mark.gpu
def test_gpu_bidirectional_and_convolution_equal_the_cpu():
    x = _inputs(4, 251, 384, 16)
    direction = Direction(*(x[n] for n in ("u", "delta", "A", "B", "C", "D", "delta_bias")))
    moved = Direction(*(t.cuda() for t in direction))
    expected = selective_scan_bidirectional(direction, direction, x["z"], True, 0.5)
    found = selective_scan_bidirectional(moved, moved, x["z"].cuda(), True, 0.5)
    assert _relative(found.cpu(), expected) < 1e-5
    weight = torch.randn(384, 4, generator=torch.Generator().manual_seed(1))
    expected = causal_conv1d(x["u"], weight, x["D"], "silu", True)
    found = causal_conv1d(x["u"].cuda(), weight.cuda(), x["D"].cuda(), "silu", True)
    assert _relative(found.cpu(), expected) < 1e-5


@pytest.mark.gpu
def test_gpu_scan_in_a_cuda_graph():
    x = _inputs(1, 513, 384, 16, "cuda")
    with torch.no_grad():
        expected = selective_scan(**x, delta_softplus=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = selective_scan(**x, delta_softplus=True)
        graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(y, expected)


@pytest.mark.gpu
def test_the_gpu_uses_triton():
    from mambabench.models.scan import Request, choose_backend

    assert choose_backend(Request("cuda", torch.float32, 16, True)) == "triton"
