"""Every backend that runs on this machine, forward, against the float64 recurrence."""

from __future__ import annotations

import pytest
import torch

from mambabench.errors import EncoderError
from mambabench.models.scan import (
    Direction,
    causal_conv1d,
    selective_scan,
    selective_scan_bidirectional,
)

CPU_BACKENDS = ("reference", "torch", "numba")
NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")


def make(batch=2, length=37, dim=48, d_state=6, dtype=torch.float64, seed=0):
    """Inputs of a scan by name."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    inputs = {
        "u": normal(batch, length, dim),
        "delta": normal(batch, length, dim) - 1,
        "A": -torch.exp(0.5 * normal(dim, d_state)),
        "B": normal(batch, length, d_state),
        "C": normal(batch, length, d_state),
        "D": normal(dim),
        "z": normal(batch, length, dim),
        "delta_bias": normal(dim),
    }
    return {name: x.to(dtype) for name, x in inputs.items()}


def truth(inputs, **options):
    wide = {name: None if x is None else x.double() for name, x in inputs.items()}
    return selective_scan(**wide, backend="reference", **options)


def relative(found, expected):
    if expected.numel() == 0:
        return 0.0
    return float((found.double() - expected).abs().max() / expected.abs().max().clamp_min(1e-30))


def test_reference_is_the_recurrence_written_out():
    x = make(batch=1, length=2, dim=1, d_state=1)
    step = torch.nn.functional.softplus(x["delta"] + x["delta_bias"])[0, :, 0]
    u, B, C, A = x["u"][0, :, 0], x["B"][0, :, 0], x["C"][0, :, 0], x["A"][0, 0]
    h0 = step[0] * B[0] * u[0]
    h1 = torch.exp(step[1] * A) * h0 + step[1] * B[1] * u[1]
    z = x["z"][0, :, 0]
    y = (torch.stack([h0, h1]) * C + x["D"] * u) * z * torch.sigmoid(z)
    found, last = truth(x, delta_softplus=True, return_last_state=True)
    torch.testing.assert_close(found[0, :, 0], y, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(last[0, 0, 0], h1, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-6), (torch.float64, 1e-13)])
@pytest.mark.parametrize(
    "shape",
    [
        {}, {"length": 0}, {"length": 1}, {"length": 16}, {"length": 33}, {"d_state": 1},
        {"d_state": 5, "dim": 7}, {"dim": 1}, {"dim": 33}, {"batch": 0}, {"d_state": 24, "dim": 64},
    ],
    ids=str,
)  # fmt: skip
def test_every_backend_equals_the_reference(backend, reverse, dtype, bound, shape):
    x = make(**shape, dtype=dtype)
    options = {"delta_softplus": True, "reverse": reverse, "return_last_state": True}
    y, last = selective_scan(**x, backend=backend, **options)
    expected, state = truth(x, **options)
    assert y.shape == expected.shape
    assert y.dtype == dtype
    assert last.shape == state.shape
    assert relative(y, expected) < bound
    assert relative(last, state) < bound


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("absent", [("D",), ("z",), ("delta_bias",), ("D", "z", "delta_bias")])
@pytest.mark.parametrize("softplus", [False, True])
def test_optional_inputs(backend, absent, softplus):
    x = make(dtype=torch.float32)
    if not softplus:
        x["delta"] = x["delta"].abs()
        x["delta_bias"] = x["delta_bias"].abs()
    x |= dict.fromkeys(absent)
    y = selective_scan(**x, delta_softplus=softplus, backend=backend)
    assert relative(y, truth(x, delta_softplus=softplus)) < 2e-6


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_reverse_is_the_flip_of_the_flipped(backend):
    x = make(dtype=torch.float32)
    flipped = {n: t.flip(1) if t.ndim == 3 else t for n, t in x.items()}
    y = selective_scan(**x, delta_softplus=True, reverse=True, backend=backend)
    expected = selective_scan(**flipped, delta_softplus=True, backend=backend).flip(1)
    torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("dim", [48, 21])
def test_bidirectional_is_the_sum_of_both(backend, gated, dim):
    x, w = make(dim=dim, dtype=torch.float32), make(dim=dim, dtype=torch.float32, seed=1)
    z = x.pop("z") if gated else None
    x["z"] = w["z"] = None
    y = truth(x, delta_softplus=True) + truth(w, delta_softplus=True, reverse=True)
    y = 0.5 * y * (torch.nn.functional.silu(z.double()) if gated else 1)
    names = ("u", "delta", "A", "B", "C", "D", "delta_bias")
    found = selective_scan_bidirectional(
        Direction(*(x[n] for n in names)), Direction(*(w[n] for n in names)), z, True, 0.5, backend
    )
    assert relative(found, y) < 2e-6


def test_bidirectional_refuses_different_shapes():
    names = ("u", "delta", "A", "B", "C")
    a, b = make(length=3), make(length=4)
    pair = [Direction(*(x[n] for n in names)) for x in (a, b)]
    with pytest.raises(EncoderError, match="the directions differ in shape"):
        selective_scan_bidirectional(*pair)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("taps", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("reverse", [False, True])
def test_convolution(backend, taps, reverse):
    x = make(dim=40, length=19)
    weight = torch.randn(40, taps, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    source = x["u"].flip(1) if reverse else x["u"]
    expected = torch.nn.functional.conv1d(
        source.transpose(1, 2), weight[:, None], x["D"], padding=taps - 1, groups=40
    )[..., :19].transpose(1, 2)
    expected = torch.nn.functional.silu(expected.flip(1) if reverse else expected)
    u, w, bias = (t.float() for t in (x["u"], weight, x["D"]))
    y = causal_conv1d(u, w, bias, "silu", reverse, backend)
    assert relative(y, expected) < 1e-6
    plain = causal_conv1d(u, w, None, None, reverse, backend)
    again = causal_conv1d(x["u"], weight, None, None, reverse, "reference")
    assert relative(plain, again) < 1e-6


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_strided_inputs_are_read_in_place(backend):
    x = make(dtype=torch.float32, dim=48, d_state=8)
    expected = selective_scan(**x, delta_softplus=True, backend=backend)
    wide = torch.zeros(2, 2 * 37, 48 * 3 + 16)
    views = {
        "u": wide[:, ::2, :48], "delta": wide[:, ::2, 48:96], "z": wide[:, ::2, 96:144],
        "B": wide[:, ::2, 144:152], "C": wide[:, ::2, 152:160],
    }  # fmt: skip
    for name, view in views.items():
        view.copy_(x[name])
    again = selective_scan(**{**x, **views}, delta_softplus=True, backend=backend)
    torch.testing.assert_close(again, expected, rtol=1e-6, atol=1e-6)
    assert backend != "numba" or torch.equal(again, expected)
    channels_first = {n: x[n].transpose(1, 2).contiguous().transpose(1, 2) for n in ("u", "z")}
    again = selective_scan(**{**x, **channels_first}, delta_softplus=True, backend=backend)
    torch.testing.assert_close(again, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_narrow_dtypes_are_computed_in_float32(backend):
    x = {n: t.bfloat16() if t.ndim == 3 else t for n, t in make(dtype=torch.float32).items()}
    y, last = selective_scan(**x, delta_softplus=True, return_last_state=True, backend=backend)
    assert y.dtype == torch.bfloat16
    assert last.dtype == torch.float32
    expected = truth(x, delta_softplus=True)
    assert relative(y, expected) < 2**-8


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_a_batch_gives_what_its_members_give(backend):
    x = make(batch=3, dtype=torch.float32)
    y = selective_scan(**x, delta_softplus=True, backend=backend)
    for i in range(3):
        one = {n: t[i : i + 1] if t.ndim == 3 else t for n, t in x.items()}
        alone = selective_scan(**one, delta_softplus=True, backend=backend)
        torch.testing.assert_close(alone[0], y[i], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("where", ["u", "delta", "A", "B", "C", "D", "z", "delta_bias"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_spread_as_in_the_reference(backend, where, value):
    x = make(batch=1, length=20, dim=32, d_state=6, dtype=torch.float32)
    target = x[where]
    target[(0, 7, 3)[: target.ndim] if target.ndim == 3 else (5, 2)[: target.ndim]] = value
    expected = truth(x, delta_softplus=True)
    y = selective_scan(**x, delta_softplus=True, backend=backend)
    assert torch.equal(y.isfinite(), expected.float().isfinite())
    if value != value:
        assert torch.equal(y.isnan(), expected.isnan())
    same = expected.isfinite()
    assert relative(y[same], expected[same]) < 2e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [60.0, 1e4, float("inf"), float("nan")])
def test_huge_steps_of_a_channel_leave_its_neighbours_the_same_bits(size, dtype):
    """The kernel bounds its exponents only in the chunks and channels that need it."""
    x = make(batch=1, length=40, dim=32, d_state=5, dtype=dtype)
    x["delta"] = x["delta"].exp().clamp(max=3)
    x["A"] = x["A"].clamp(min=-3)
    del x["delta_bias"]
    plain = selective_scan(**x, backend="numba")
    x["delta"][0, 21, 3] = size
    y = selective_scan(**x, backend="numba")
    others = torch.arange(32) != 3
    assert torch.equal(y[..., others], plain[..., others])
    assert torch.equal(y[:, :21], plain[:, :21])
    expected = truth(x)
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_growing_states_overflow_to_infinity(backend):
    x = make(batch=1, length=40, dim=32, d_state=6, dtype=torch.float32)
    x["A"] = x["A"].abs() * 50
    expected = selective_scan(**x, delta_softplus=True, backend="reference")
    y = selective_scan(**x, delta_softplus=True, backend=backend)
    assert not expected.isfinite().all()
    assert torch.equal(y.isfinite(), expected.isfinite())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"B": torch.zeros(2, 37, 5)}, r"B has shape \(2, 37, 5\), expected \(2, 37, 6\)"),
        ({"delta": torch.zeros(2, 36, 48)}, r"delta has shape \(2, 36, 48\)"),
        ({"D": torch.zeros(47)}, r"D has shape \(47,\), expected \(48,\)"),
        ({"u": torch.zeros(37, 48)}, r"u has shape \(37, 48\)"),
        ({"z": torch.zeros(2, 37, 48, dtype=torch.int64)}, "z has dtype torch.int64"),
        ({"A": torch.zeros(48, 6, dtype=torch.complex64)}, "A has dtype torch.complex64"),
    ],
)
def test_wrong_inputs_are_named(change, text):
    with pytest.raises(EncoderError, match=text):
        selective_scan(**{**make(), **change})


def test_wrong_convolutions_are_named():
    x = torch.zeros(1, 3, 16)
    with pytest.raises(EncoderError, match="activation='relu' is unknown"):
        causal_conv1d(x, torch.zeros(16, 4), activation="relu")
    with pytest.raises(EncoderError, match=r"weight \(15, 4\) do not fit"):
        causal_conv1d(x, torch.zeros(15, 4))
    with pytest.raises(EncoderError, match=r"bias has shape \(3,\)"):
        causal_conv1d(x, torch.zeros(16, 4), torch.zeros(3))
