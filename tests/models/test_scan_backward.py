"""Gradients of the scan and the convolution; the operators under torch's own checks."""

from __future__ import annotations

import pytest
import torch

from mambabench.models.scan import (
    Direction,
    causal_conv1d,
    selective_scan,
    selective_scan_bidirectional,
)

NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")


def make(batch=2, length=19, dim=16, d_state=3, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    values = (
        normal(batch, length, dim), normal(batch, length, dim) - 1,
        -torch.exp(0.5 * normal(dim, d_state)), normal(batch, length, d_state),
        normal(batch, length, d_state), normal(dim), normal(batch, length, dim), normal(dim),
    )  # fmt: skip
    return {n: x.to(dtype).requires_grad_() for n, x in zip(NAMES, values, strict=True)}


def weighted(y, last, seed=5):
    g = torch.Generator().manual_seed(seed)
    loss = (y * torch.randn(y.shape, generator=g, dtype=torch.float64)).sum()
    return loss + (last * torch.randn(last.shape, generator=g, dtype=torch.float64)).sum()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("absent", [(), ("D", "z", "delta_bias")])
def test_gradcheck(reverse, absent):
    x = make(batch=1, dim=2, length=18)
    x |= dict.fromkeys(absent)

    def function(*tensors):
        return selective_scan(
            **dict(zip(NAMES, tensors, strict=True)), delta_softplus=True, reverse=reverse,
            return_last_state=True, backend="numba",
        )  # fmt: skip

    torch.autograd.gradcheck(function, tuple(x.values()), atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 2e-14)])
@pytest.mark.parametrize(
    "shape",
    [{}, {"length": 1}, {"length": 16}, {"dim": 7}, {"d_state": 6, "dim": 64}, {"length": 0}],
    ids=str,
)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("softplus", [False, True])
def test_gradients_equal_the_reference(backend, dtype, bound, shape, reverse, softplus):
    x = make(**shape)
    options = {"delta_softplus": softplus, "reverse": reverse, "return_last_state": True}
    if not softplus:
        x["delta"] = x["delta"].detach().abs().requires_grad_()
        x["delta_bias"] = x["delta_bias"].detach().abs().requires_grad_()
    y, last = selective_scan(**x, **options, backend="reference")
    expected = torch.autograd.grad(weighted(y, last), list(x.values()), materialize_grads=True)
    leaves = [t.detach().to(dtype).requires_grad_() for t in x.values()]
    inputs = dict(zip(NAMES, leaves, strict=True))
    y, last = selective_scan(**inputs, **options, backend=backend)
    found = torch.autograd.grad(weighted(y, last), leaves, materialize_grads=True)
    for name, a, b in zip(NAMES, found, expected, strict=True):
        assert a.dtype == dtype
        assert a.shape == b.shape
        if b.numel():
            error = float((a.double() - b).abs().max() / b.abs().max().clamp_min(1e-30))
            assert error < bound, name


def test_only_what_asks_gets_a_gradient():
    x = {n: t.detach() for n, t in make().items()}
    x["B"].requires_grad_()
    y = selective_scan(**x, backend="numba")
    y.sum().backward()
    assert x["B"].grad is not None
    assert all(t.grad is None for n, t in x.items() if n != "B")
    with torch.no_grad():
        assert not selective_scan(**x, backend="numba").requires_grad


def test_mixed_dtypes_get_gradients_of_their_own_dtype():
    x = {n: t.detach().float() for n, t in make().items()}
    x = {n: t.bfloat16() if t.ndim == 3 else t for n, t in x.items()}
    for t in x.values():
        t.requires_grad_()
    selective_scan(**x, delta_softplus=True, backend="numba").float().sum().backward()
    assert {n: t.grad.dtype for n, t in x.items()} == {n: t.dtype for n, t in x.items()}


@pytest.mark.parametrize("gated", [False, True])
def test_bidirectional_gradients(gated):
    x, w = make(), make(seed=1)
    z = x["z"] if gated else None
    names = ("u", "delta", "A", "B", "C", "D", "delta_bias")
    pair = [Direction(*(s[n] for n in names)) for s in (x, w)]
    leaves = [t for d in pair for t in d] + ([z] if gated else [])
    found, expected = (
        torch.autograd.grad(
            selective_scan_bidirectional(*pair, z, True, 0.5, backend).square().sum(), leaves
        )
        for backend in ("numba", "reference")
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("taps", [2, 4])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("length", [1, 6])
def test_convolution_gradcheck(taps, reverse, biased, activation, length):
    x = make(batch=2, length=length, dim=3)["u"]
    weight = make(dim=3, d_state=taps)["A"]
    bias = make(dim=3)["D"] if biased else None
    torch.autograd.gradcheck(
        lambda *t: causal_conv1d(*t, activation, reverse, "numba"), (x, weight, bias)
    )


@pytest.mark.parametrize("absent", [(), ("D", "z", "delta_bias")])
@pytest.mark.parametrize("keep", [False, True])
def test_scan_operators_pass_opcheck(absent, keep):
    selective_scan(**make(), backend="numba")  # registers the operators
    x = make(length=17, dtype=torch.float32)
    if not keep:
        x = {n: t.detach() for n, t in x.items()}
    x |= dict.fromkeys(absent)
    torch.library.opcheck(
        torch.ops.mambabench.selective_scan, (*x.values(), True, False, keep, "compiled")
    )


def test_convolution_operators_pass_opcheck():
    x = make(dtype=torch.float32)
    weight = make(d_state=4, dtype=torch.float32)["A"]
    causal_conv1d(x["u"], weight, backend="numba")
    torch.library.opcheck(
        torch.ops.mambabench.causal_conv1d, (x["u"], weight, x["D"], True, False, "compiled")
    )


class _Block(torch.nn.Module):
    """A Mamba-like piece: convolution, scan in both directions."""

    def __init__(self, dim=48, d_state=4):
        super().__init__()
        g = torch.Generator().manual_seed(0)

        def parameter(*shape):
            return torch.nn.Parameter(torch.randn(*shape, generator=g))

        self.weight, self.A, self.D = parameter(dim, 4), parameter(dim, d_state), parameter(dim)
        self.to_state = parameter(dim, 2 * d_state)

    def forward(self, x, z):
        u = causal_conv1d(x, self.weight, None, "silu")
        B, C = (u @ self.to_state).chunk(2, dim=-1)
        direction = Direction(u, u, -self.A.exp(), B, C, self.D)
        y, last = selective_scan(*direction[:6], z, None, True, False, True)
        return y + selective_scan_bidirectional(direction, direction, z, True), last


@pytest.mark.parametrize("grad", [False, True])
def test_compiles_without_a_graph_break(grad):
    torch._dynamo.reset()
    block = _Block()
    x, z = (torch.randn(2, 21, 48, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
    with torch.set_grad_enabled(grad):
        y, last = block(x, z)
        found, found_last = compiled(x, z)
    torch.testing.assert_close(found, y, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found_last, last, rtol=1e-6, atol=1e-6)
    if grad:
        parameters = list(block.parameters())
        a = torch.autograd.grad(y.square().sum(), parameters)
        b = torch.autograd.grad(found.square().sum(), parameters)
        for first, second in zip(a, b, strict=True):
            torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)


def test_exports_within_1e_6():
    block = _Block().eval()
    x, z = (torch.randn(2, 21, 48, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    with torch.no_grad():
        program = torch.export.export(block, (x, z))
        y, last = block(x, z)
        found, found_last = program.module()(x, z)
    assert float((found - y).abs().max() / y.abs().max()) < 1e-6
    assert float((found_last - last).abs().max() / last.abs().max()) < 1e-6
    assert "mambabench.selective_scan" in program.graph_module.code
