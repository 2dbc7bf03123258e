"""Subnormal numbers: the kernels take them for zero and leave the thread's arithmetic alone.

That this makes silence as fast as sound is measured by perf/scan.py, not here.
"""

from __future__ import annotations

import platform
import threading

import numpy as np
import pytest
import torch

from mambabench.models.scan import (
    Direction,
    causal_conv1d,
    compiled,
    selective_scan,
    selective_scan_bidirectional,
)
from mambabench.probe.heads import exact_kernels
from mambabench.probe.heads import kernels as probe_kernels
from mambabench.subnormals import arithmetic

TINY = {torch.float32: 1.1754944e-38, torch.float64: 2.2250738585072014e-308}
FLUSH, EXCEPTIONS = 0x8040, 0x3F
on_x86 = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="the control register is x86's"
)


def noise(*shape, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)


def signals(dtype, length=600, dim=32):
    """An impulse, sound that fades through the subnormal range, and sound with zeros around it."""
    impulse = torch.zeros(1, length, dim, dtype=dtype)
    impulse[:, 0] = 1.0
    sound = noise(1, length, dim, dtype=torch.float64)
    low = -46 if dtype == torch.float32 else -324
    faded = sound * torch.logspace(0, low, length, dtype=torch.float64)[None, :, None]
    padded = sound.clone()
    padded[:, : length // 3] = 0
    padded[:, length // 2 :] = 0
    return {"impulse": impulse, "faded": faded.to(dtype), "padded": padded.to(dtype)}


def leaves(u):
    dtype, (_, length, dim) = u.dtype, u.shape
    made = [
        u, torch.full_like(u, 0.5), -torch.linspace(0.5, 2, dim * 5, dtype=dtype).reshape(dim, 5),
        noise(1, length, 5, seed=1, dtype=dtype), noise(1, length, 5, seed=2, dtype=dtype),
    ]  # fmt: skip
    return [x.clone().requires_grad_() for x in made]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["impulse", "faded", "padded"])
@pytest.mark.parametrize("reverse", [False, True])
def test_scans_and_convolutions_agree_with_float64(dtype, name, reverse):
    """What is lost is below the smallest normal number times what multiplies it."""
    u = signals(dtype)[name]
    bound = 2e-6 if dtype == torch.float32 else 1e-13
    weight = noise(32, 4, seed=3, dtype=dtype).requires_grad_()

    def scan(inputs, backend):
        y = selective_scan(*inputs, reverse=reverse, backend=backend)
        return y, *torch.autograd.grad(y, inputs, inputs[0].detach())

    def convolve(inputs, backend):
        y = causal_conv1d(*inputs, None, "silu", reverse, backend)
        return y, *torch.autograd.grad(y, inputs, inputs[0].detach())

    for function, inputs in ((scan, leaves(u)), (convolve, [u.clone().requires_grad_(), weight])):
        found = function(inputs, "numba")
        wide = [x.detach().double().requires_grad_() for x in inputs]
        for a, b in zip(found, function(wide, "reference"), strict=True):
            error = (a.double() - b).abs().detach()
            assert bool(torch.isfinite(a).all())
            assert float(error.max()) <= bound * float(b.detach().abs().max())
    # where the signal is loud enough, each number is right by itself
    y, truth = found[0].detach().double(), function(wide, "reference")[0].detach()
    loud = truth.abs() > 1e6 * TINY[dtype]
    assert float(((y - truth).abs() / truth.abs())[loud].median()) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_result_is_subnormal(dtype):
    if platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip("subnormals are flushed on x86 only")
    u = torch.full((1, 40, 16), TINY[dtype] / 8, dtype=dtype)
    s, A = torch.ones(1, 40, 2, dtype=dtype), -torch.ones(16, 2, dtype=dtype)
    y, last = selective_scan(u, torch.ones_like(u), A, s, s, return_last_state=True)
    found = (y, last, causal_conv1d(u, torch.ones(16, 4, dtype=dtype)))
    assert all(bool((x == 0).all()) for x in found)
    faded = selective_scan(
        signals(dtype)["impulse"], torch.full((1, 600, 32), 0.5, dtype=dtype),
        -torch.ones(32, 2, dtype=dtype) * (1 if dtype == torch.float32 else 8),
        *[torch.ones(1, 600, 2, dtype=dtype)] * 2,
    )  # fmt: skip
    assert bool((faded[:, -1] == 0).all())
    assert not bool(((faded != 0) & (faded.abs() < TINY[dtype])).any())


def run_everything():
    """Call every compiled kernel that flushes, forward and backward, with subnormal numbers."""
    u = (noise(2, 40, 32) * 1e-39).requires_grad_()
    inputs = [u, *leaves(u.detach().expand(1, -1, -1, -1)[0, :1])[1:]]
    inputs[1:] = [x.detach().expand(2, *x.shape[1:]) if x.ndim == 3 else x for x in inputs[1:]]
    selective_scan(*inputs, backend="numba").sum().backward()
    causal_conv1d(u, torch.ones(32, 4), None, "silu", backend="numba").sum().backward()
    with torch.no_grad():
        direction = Direction(*inputs)
        selective_scan_bidirectional(direction, direction, u.detach(), backend="numba")
        compiled.add_norm(u.detach(), u.detach(), torch.ones(32), torch.ones(32), False, 1e-5)
    z = np.full((4, 32), 1e-39, np.float32)
    ones = np.ones((2, 4), np.float32)
    bits = np.full((1, 4), 0xFFFFFFFF, np.uint32)
    a, moments = np.empty_like(z), np.empty((2, 4), np.float32)
    one = np.float32(1.0)
    probe_kernels.norm_forward(32, z, ones, ones.copy(), ones[0], bits, one, a, moments)
    probe_kernels.norm_backward(32, z.copy(), a, z, moments, ones, ones.copy(), one)
    probe_kernels.scale_shift_relu(z.copy(), ones[0], ones[0])
    flat = np.full(64, 1e-39, np.float32)
    probe_kernels.adam_step(flat, flat.copy(), flat.copy(), flat.copy(), one, one, one)


@on_x86
@pytest.mark.parametrize("flushing", [False, True])
def test_the_callers_arithmetic_is_as_before(flushing):
    run_everything()  # compiled, so that nothing else runs between the two readings
    try:
        torch.set_flush_denormal(flushing)
        before = arithmetic()
        run_everything()
        assert (before ^ arithmetic()) & ~EXCEPTIONS == 0
        assert bool(before & FLUSH) == flushing
    finally:
        torch.set_flush_denormal(False)
    half = np.float32(1e-38) * np.float32(0.5)
    assert half > 0
    assert float(torch.tensor([1e-38]) * 0.5) > 0


@on_x86
def test_every_thread_flushes_and_restores_its_own():
    """Workers compute as the caller does, and no other thread notices."""
    u = noise(4, 2000, 64) * 1e-39  # enough for workers
    s, A = torch.ones(4, 2000, 16), -torch.ones(64, 16)
    seen, stop = [], threading.Event()

    def watch():
        while not stop.is_set():
            seen.append(bool(arithmetic() & FLUSH))

    arithmetic()
    before = torch.get_num_threads()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        torch.set_num_threads(2)
        y = selective_scan(u, torch.ones_like(u), A, s, s, backend="numba")
    finally:
        torch.set_num_threads(before)
        stop.set()
        watcher.join()
    assert bool((y == 0).all())
    pool = compiled._pool
    assert pool is not None
    assert not pool.submit(arithmetic).result() & FLUSH
    assert seen
    assert not any(seen)


@on_x86
def test_a_refused_call_leaves_the_arithmetic_alone():
    before = arithmetic() & ~EXCEPTIONS
    with pytest.raises(TypeError):  # too few arguments
        probe_kernels.adam_step(np.ones(3, np.float32))
    with pytest.raises(Exception, match=r"(?s)."):  # types that do not compile
        probe_kernels.adam_step(*["text"] * 7)
    assert arithmetic() & ~EXCEPTIONS == before


@on_x86
@pytest.mark.parametrize("flushing", [False, True])
def test_exact_kernels_treat_subnormals_as_torch_does(flushing):
    g, m, v = (noise(256, seed=i) * 2e-38 for i in range(3))
    v = v.abs()
    first, second = m.numpy().copy(), v.numpy().copy()
    try:
        torch.set_flush_denormal(flushing)
        exact_kernels.adam_moments(g.numpy(), first, second)
        m.lerp_(g, 1 - 0.9)
        v.mul_(0.999).addcmul_(g, g, value=1 - 0.999)
    finally:
        torch.set_flush_denormal(False)
    below = (m != 0) & (m.abs() < TINY[torch.float32])
    assert bool(below.any()) != flushing
    assert np.array_equal(first.view(np.int32), m.numpy().view(np.int32))
    assert np.array_equal(second.view(np.int32), v.numpy().view(np.int32))


def test_adam_without_subnormals_moves_weights_alike():
    """A unit whose gradients ended: its moments reach zero instead of staying just above it."""
    weight = noise(64).numpy()
    ours = [x.copy() for x in (weight, np.zeros(64), np.zeros(64))]
    ours = [x.astype(np.float32) for x in ours]
    exact = [x.astype(np.float64) for x in ours]
    for t in range(1, 2001):
        g = np.full(64, 0.1 if t <= 5 else 0.0, np.float32)
        rate, scale = 1e-3 / (1 - 0.9**t), (1 - 0.999**t) ** -0.5
        probe_kernels.adam_step(
            ours[0], g, ours[1], ours[2], *(np.float32(x) for x in (rate, scale, 1.0))
        )
        exact[1] += 0.1 * (g - exact[1])
        exact[2] += 0.001 * (g.astype(np.float64) ** 2 - exact[2])
        exact[0] -= rate * exact[1] / (np.sqrt(exact[2]) * scale + 1e-8)
    assert np.abs(ours[0] - exact[0]).max() < 1e-5  # rounding of the weights
    if platform.machine().lower() in ("x86_64", "amd64"):
        assert not ours[1].any()


@pytest.mark.parametrize("taps", [1, 3, 4, 9])
@pytest.mark.parametrize("length", [2, 64, 200])
@pytest.mark.parametrize("silu", [None, "silu"])
@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_of_the_convolution(taps, length, silu, reverse):
    x = noise(3, length, 48)[..., 8:40].requires_grad_()  # a view
    weight, bias = noise(32, taps, seed=1), noise(32, seed=2)
    dout = noise(32, 3, length, seed=3).permute(1, 2, 0)
    inputs = [t.detach().requires_grad_() for t in (x, weight, bias)]
    y = causal_conv1d(*inputs, silu, reverse, "numba")
    found = torch.autograd.grad(y, inputs, dout)
    wide = [t.detach().double().requires_grad_() for t in inputs]
    y = causal_conv1d(*wide, silu, reverse, "reference")
    for a, b in zip(found, torch.autograd.grad(y, wide, dout.double()), strict=True):
        assert a.shape == b.shape
        assert float((a - b).abs().max() / b.abs().max()) < 1e-6
