"""The twins of mamba_ssm's and causal_conv1d's functions, against their formulas."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from mambabench.errors import EncoderError
from mambabench.models.scan import (
    bimamba_inner_fn,
    causal_conv1d_fn,
    mamba_inner_fn,
    mamba_inner_fn_no_out_proj,
    selective_scan_fn,
)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def formula(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):
    """The recurrence on [batch, dim, length] with B and C [batch, dim, d_state, length]."""
    if delta_bias is not None:
        delta = delta + delta_bias[:, None]
    if delta_softplus:
        delta = functional.softplus(delta)
    h = torch.zeros(u.shape[0], u.shape[1], A.shape[1], dtype=u.dtype)
    ys = []
    for t in range(u.shape[2]):
        decay = torch.exp(delta[:, :, t, None] * A)
        h = decay * h + (delta[:, :, t] * u[:, :, t])[..., None] * B[..., t]
        ys.append((h * C[..., t]).sum(-1))
    y = torch.stack(ys, 2)
    y = y if D is None else y + u * D[:, None]
    return (y if z is None else y * functional.silu(z)), h


@pytest.mark.parametrize(
    "kind", ["plain", "groups", "one group", "constant B", "constant C", "both"]
)
@pytest.mark.parametrize("extras", [False, True])
def test_selective_scan_fn(kind, extras):
    batch, dim, length, d_state = 2, 32, 21, 3
    u, delta = normal(batch, dim, length), normal(batch, dim, length, seed=1).abs()
    A = -normal(dim, d_state, seed=2).exp()
    states = {
        "plain": (normal(batch, d_state, length, seed=3), normal(batch, d_state, length, seed=4)),
        "groups": (
            normal(batch, 4, d_state, length, seed=3),
            normal(batch, 4, d_state, length, seed=4),
        ),
        "one group": (
            normal(batch, 1, d_state, length, seed=3),
            normal(batch, d_state, length, seed=4),
        ),
        "constant B": (normal(dim, d_state, seed=3), normal(batch, 2, d_state, length, seed=4)),
        "constant C": (normal(batch, d_state, length, seed=3), normal(dim, d_state, seed=4)),
        "both": (normal(dim, d_state, seed=3), normal(dim, d_state, seed=4)),
    }
    B, C = states[kind]
    options = {}
    if extras:
        options = {
            "D": normal(dim, seed=5), "z": normal(batch, dim, length, seed=6),
            "delta_bias": normal(dim, seed=7), "delta_softplus": True,
        }  # fmt: skip

    def per_channel(x):
        if x.ndim == 2:
            return x[None, :, :, None].expand(batch, dim, d_state, length)
        x = x if x.ndim == 4 else x[:, None]
        return x.repeat_interleave(dim // x.shape[1], 1)

    expected, state = formula(u, delta, A, per_channel(B), per_channel(C), **options)
    y, last = selective_scan_fn(u, delta, A, B, C, **options, return_last_state=True)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(last, state, rtol=1e-12, atol=1e-12)
    alone = selective_scan_fn(u, delta, A, B, C, **options)
    assert torch.equal(alone, y)


def test_complex_rates_are_refused():
    x = normal(1, 16, 4)
    A = torch.zeros(16, 2, dtype=torch.complex64)
    with pytest.raises(EncoderError, match="complex A, B or C are not supported"):
        selective_scan_fn(x, x, A, normal(1, 2, 4), normal(1, 2, 4))


def test_bfloat16_inputs_as_under_autocast():
    u, delta, z = (normal(1, 16, 9, seed=i).bfloat16() for i in range(3))
    A, D, bias = -normal(16, 2).float().exp(), normal(16).float(), normal(16, seed=3).float()
    B, C = (normal(1, 2, 9, seed=i).bfloat16() for i in range(2))
    y, last = selective_scan_fn(u, delta, A, B, C, D, z, bias, True, True)
    wide = [t.float() for t in (u, delta, A, B, C, D, z, bias)]
    expected, state = selective_scan_fn(*wide, True, True)
    assert (y.dtype, last.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(y, expected.bfloat16())
    torch.testing.assert_close(last, state)


@pytest.mark.parametrize("taps", [2, 4])
@pytest.mark.parametrize("length", [1, 2, 9])
@pytest.mark.parametrize("activation", [None, "silu", "swish"])
@pytest.mark.parametrize("initial", [False, True])
def test_causal_conv1d_fn(taps, length, activation, initial):
    x, weight, bias = normal(2, 16, length), normal(16, taps, seed=1), normal(16, seed=2)
    before = normal(2, 16, taps - 1, seed=3) if initial else torch.zeros(2, 16, taps - 1).double()
    whole = torch.cat([before, x], 2)
    expected = functional.conv1d(whole, weight[:, None], bias, groups=16)
    expected = expected if activation is None else functional.silu(expected)
    states = before if initial else None
    y = causal_conv1d_fn(x, weight, bias, initial_states=states, activation=activation)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    out = torch.empty(2, 16, taps - 1, dtype=torch.float64)
    y, final = causal_conv1d_fn(x, weight, bias, None, states, True, out, activation)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(final, whole[..., length:])
    assert final is out


def test_packed_sequences_are_refused():
    with pytest.raises(EncoderError, match="seq_idx is not supported"):
        causal_conv1d_fn(normal(1, 16, 4), normal(16, 4), seq_idx=torch.zeros(1, 4))


def _weights(dim=32, d_model=16, d_state=4, rank=2):
    return {
        "conv1d_weight": normal(dim, 1, 4, seed=1), "conv1d_bias": normal(dim, seed=2),
        "x_proj_weight": 0.2 * normal(rank + 2 * d_state, dim, seed=3),
        "delta_proj_weight": normal(dim, rank, seed=4),
    }, {
        "out_proj_weight": normal(d_model, dim, seed=5), "out_proj_bias": normal(d_model, seed=6),
        "A": -normal(dim, d_state, seed=7).exp(),
    }, {"D": normal(dim, seed=8), "delta_bias": normal(dim, seed=9)}  # fmt: skip


def _inside(xz, first, A, rest, flip=False):
    """A Mamba block's inside by the formulas; `flip`: the scan runs on reversed time."""
    x, z = xz.chunk(2, dim=1)
    x = functional.conv1d(
        x, first["conv1d_weight"], first["conv1d_bias"], padding=3, groups=x.shape[1]
    )[..., : x.shape[2]]
    x = functional.silu(x)
    rows = torch.einsum("bdl,kd->bkl", x, first["x_proj_weight"])
    rank = first["delta_proj_weight"].shape[1]
    n = A.shape[1]
    delta = torch.einsum("bkl,dk->bdl", rows[:, :rank], first["delta_proj_weight"])
    B, C = rows[:, None, rank : rank + n], rows[:, None, rank + n :]
    tensors = (x, delta, B, C, z)
    x, delta, B, C, z = (t.flip(-1) if flip else t for t in tensors)
    y, _ = formula(x, delta, A, B, C, rest["D"], z, rest["delta_bias"], True)
    return y.flip(-1) if flip else y


def test_mamba_inner_fn_is_the_block():
    first, second, rest = _weights()
    xz = normal(2, 64, 11)
    y = _inside(xz, first, second["A"], rest)
    found = mamba_inner_fn_no_out_proj(xz, *first.values(), second["A"], None, None, *rest.values())
    torch.testing.assert_close(found, y, rtol=1e-10, atol=1e-10)
    expected = functional.linear(
        y.transpose(1, 2), second["out_proj_weight"], second["out_proj_bias"]
    )
    found = mamba_inner_fn(
        xz, *first.values(), *second.values(), None, None, **rest, delta_softplus=True
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_bimamba_inner_fn_shares_all_but_rates():
    first, second, rest = _weights()
    xz, A_b = normal(2, 64, 11), -normal(32, 4, seed=10).exp()
    y = _inside(xz, first, second["A"], rest) + _inside(xz, first, A_b, rest, flip=True)
    expected = functional.linear(
        y.transpose(1, 2), second["out_proj_weight"], second["out_proj_bias"]
    )
    found = bimamba_inner_fn(
        xz, *first.values(), *second.values(), A_b, None, None, **rest, delta_softplus=True
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_given_and_biased_states():
    first, second, rest = _weights()
    xz, B, C = normal(1, 64, 7), normal(1, 4, 7, seed=11), normal(1, 4, 7, seed=12)
    options = {**first, "A": second["A"], **rest}
    found = mamba_inner_fn_no_out_proj(xz, **options, B=B, C=C)
    biased = mamba_inner_fn_no_out_proj(
        xz, **options, C=C, B_proj_bias=torch.zeros(4).double(), C_proj_bias=normal(4)
    )
    plain = mamba_inner_fn_no_out_proj(xz, **options, C=C)
    assert torch.equal(biased, plain)  # a zero bias of B; that of a given C is not used
    assert not torch.allclose(found, plain)


@pytest.mark.peer
def test_transformers_mamba_runs_on_these_functions(monkeypatch):
    modeling = pytest.importorskip("transformers.models.mamba.modeling_mamba")
    from transformers import MambaConfig

    torch.manual_seed(0)
    config = MambaConfig(hidden_size=64, num_hidden_layers=2, vocab_size=50, state_size=16)
    model = modeling.MambaForCausalLM(config).eval()
    tokens = torch.randint(0, 50, (2, 37))
    with torch.no_grad():
        expected = model(tokens, use_cache=False).logits
        generated = model.generate(tokens, max_new_tokens=4, do_sample=False)
    calls = []

    def counted(*arguments, **options):
        calls.append(arguments[0].shape)
        return selective_scan_fn(*arguments, **options)

    monkeypatch.setattr(modeling, "mamba_selective_scan", counted)
    monkeypatch.setattr(modeling, "causal_conv1d_fn", causal_conv1d_fn)
    with torch.no_grad():
        found = model(tokens, use_cache=False).logits
        again = model.generate(tokens, max_new_tokens=4, do_sample=False)
    assert len(calls) == 2 + 2
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(again, generated)
    monkeypatch.setattr(modeling, "mamba_inner_fn", mamba_inner_fn)
    model.train()
    loss = model(tokens, labels=tokens, use_cache=False).loss
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
