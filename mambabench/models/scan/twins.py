"""Twins of the functions that published Mamba code imports, with its signatures and layouts.

`selective_scan_fn`, `mamba_inner_fn`, `mamba_inner_fn_no_out_proj` and `bimamba_inner_fn` take the
arguments of mamba_ssm 1.x (and Vim's extension) with [batch, dim, length] tensors;
`causal_conv1d_fn` those of causal_conv1d. They run on every device that a backend serves and are
differentiable, so a foreign Mamba block runs on a CPU by changing one import.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mambabench.errors import EncoderError
from mambabench.models.plain import sizes
from mambabench.models.scan.functions import causal_conv1d, selective_scan
from mambabench.models.scan.reference import scan_stepwise

__all__ = [
    "bimamba_inner_fn",
    "causal_conv1d_fn",
    "mamba_inner_fn",
    "mamba_inner_fn_no_out_proj",
    "selective_scan_fn",
]


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    use_mambapy: bool = False,
    use_associative_scan: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Return y [batch, dim, length] (and the last state [batch, dim, d_state]) like mamba_ssm's.

    `u`, `delta`, `z` [batch, dim, length]; `A` [dim, d_state], real; `B`, `C` [batch, d_state,
    length], [batch, groups, d_state, length] or constant [dim, d_state]. Groups divide the channels
    evenly, in their order; B and C may have different numbers of them. Constant ones run through
    the reference. The last two arguments are hints that transformers passes to its own function;
    they change nothing. Raises EncoderError for complex A and for groups that do not divide.
    """
    if A.is_complex() or B.is_complex() or C.is_complex():
        raise EncoderError("complex A, B or C are not supported: Mamba's are real")
    n_groups = [_n_groups(name, x, u) for name, x in (("B", B), ("C", C))]
    u, delta = u.transpose(1, 2), delta.transpose(1, 2)
    z = None if z is None else z.transpose(1, 2)
    if B.ndim == 2 or C.ndim == 2:
        y, last = _with_constants(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    else:
        groups = math.lcm(*n_groups)
        ys, states = [], []
        for i in range(groups):
            inputs: list[Any] = [_slice(x, i, groups) for x in (u, delta, D, z, delta_bias)]
            rates = A if groups == 1 else A.chunk(groups)[i]
            found = selective_scan(
                inputs[0], inputs[1], rates, _group(B, i, groups), _group(C, i, groups),
                D=inputs[2], z=inputs[3], delta_bias=inputs[4], delta_softplus=delta_softplus,
                return_last_state=True,
            )  # fmt: skip
            ys.append(found[0])
            states.append(found[1])
        y = ys[0] if groups == 1 else torch.cat(ys, 2)
        last = states[0] if groups == 1 else torch.cat(states, 1)
    y = y.transpose(1, 2)
    return (y, last) if return_last_state else y


def _slice(x: Tensor | None, i: int, groups: int) -> Tensor | None:
    """Return the channels of group `i`, channels last."""
    return x if x is None or groups == 1 else x.chunk(groups, -1)[i]


def _n_groups(name: str, x: Tensor, u: Tensor) -> int:
    """Return the number of groups of B or C beside u [batch, dim, length]; refuse what is wrong."""
    shape, dim = tuple(sizes(x)), sizes(u)[1]
    if len(shape) not in (2, 3, 4):
        raise EncoderError(
            f"{name} has shape {shape}: expected [batch, d_state, length], "
            "[batch, groups, d_state, length] or [dim, d_state]"
        )
    groups = shape[1] if len(shape) == 4 else 1
    if groups < 1 or dim % groups:
        raise EncoderError(
            f"{name} has {groups} groups, shape {shape}, for the {dim} channels of u "
            f"{tuple(sizes(u))}: the channels must be a multiple of the groups"
        )
    return groups


def _group(x: Tensor, i: int, groups: int) -> Tensor:
    """Return [batch, d_state, length], or its part `i` of `groups`, as [batch, length, d_state]."""
    if x.ndim == 4:
        x = x[:, i * sizes(x)[1] // groups]
    return x.transpose(1, 2)


def _with_constants(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None,
    z: Tensor | None, bias: Tensor | None, softplus: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Scan with B or C that do not depend on time, [dim, d_state]; the other may be grouped."""
    B, C = (x if x.ndim == 2 else _per_channel(x, sizes(u)[2]) for x in (B, C))
    inputs: list[Any] = [u, delta, A, B, C, D, z, bias]
    wide = [x if x is None or x.dtype == torch.float64 else x.float() for x in inputs]
    every = [*wide, softplus, False]
    y, last = scan_stepwise(*every)
    return y.to(u.dtype), last


def _per_channel(x: Tensor, dim: int) -> Tensor:
    """Return [batch, (groups,) d_state, length] as [batch, length, dim, d_state]."""
    x = x if x.ndim == 4 else x[:, None]
    return x.permute(0, 3, 1, 2).repeat_interleave(dim // sizes(x)[1], 2)


def causal_conv1d_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    seq_idx: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Return the convolved `x` [batch, dim, length] like causal_conv1d's function of that name.

    `weight` [dim, taps]; `initial_states` [batch, dim, taps - 1] stand before `x`; the final states
    are its last taps - 1 inputs, also written to `final_states_out`. Raises EncoderError for
    `seq_idx`, which packs several sequences into one.
    """
    if seq_idx is not None:
        raise EncoderError("seq_idx is not supported: give every sequence a batch row of its own")
    before = weight.shape[1] - 1
    if initial_states is None:
        y = causal_conv1d(x.transpose(1, 2), weight, bias, activation).transpose(1, 2)
        whole = functional.pad(x, (max(before - x.shape[2], 0), 0)) if return_final_states else x
    else:
        whole = torch.cat([initial_states.to(x.dtype), x], 2)
        y = causal_conv1d(whole.transpose(1, 2), weight, bias, activation).transpose(1, 2)
        y = y[..., before:]
    if not return_final_states:
        return y
    final = whole[..., whole.shape[2] - before :]
    return y, final.clone() if final_states_out is None else final_states_out.copy_(final)


def _project(
    x: Tensor, x_proj_weight: Tensor, delta_proj_weight: Tensor, B: Tensor | None,
    C: Tensor | None, d_state: int, B_bias: Tensor | None, C_bias: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return delta [batch, dim, length] and B, C, given or projected from x, for the scan."""
    rows = functional.linear(x.transpose(1, 2), x_proj_weight)  # [batch, length, rank + states]
    rank = delta_proj_weight.shape[1]
    delta = functional.linear(rows[..., :rank], delta_proj_weight).transpose(1, 2)
    if B is None:
        B = rows[..., rank : rank + d_state]
        B = (B if B_bias is None else B + B_bias.to(B.dtype)).transpose(1, 2)
    if C is None:
        C = rows[..., rows.shape[-1] - d_state :]
        C = (C if C_bias is None else C + C_bias.to(C.dtype)).transpose(1, 2)
    return delta, B, C


def mamba_inner_fn_no_out_proj(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    A: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
) -> Tensor:
    """Return a Mamba block's inside, [batch, dim, length], from `xz` [batch, 2 * dim, length]."""
    x, z = xz.chunk(2, dim=1)
    x = _convolved(x, conv1d_weight, conv1d_bias)
    delta, B, C = _project(
        x, x_proj_weight, delta_proj_weight, B, C, A.shape[1], B_proj_bias, C_proj_bias
    )
    y = selective_scan_fn(x, delta, A, B, C, D, z, delta_bias, delta_softplus)
    assert isinstance(y, Tensor)
    return y


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return causal_conv1d(x.transpose(1, 2), weight.squeeze(1), bias, "silu").transpose(1, 2)


def mamba_inner_fn(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    A: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
) -> Tensor:
    """Return a Mamba block's output [batch, length, d_model] from `xz` [batch, 2 * dim, length]."""
    y = mamba_inner_fn_no_out_proj(
        xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, A, B, C, D, delta_bias,
        B_proj_bias, C_proj_bias, delta_softplus,
    )  # fmt: skip
    return functional.linear(y.transpose(1, 2), out_proj_weight, out_proj_bias)


def bimamba_inner_fn(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    A: Tensor,
    A_b: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
) -> Tensor:
    """Return the output of Vim's first bidirectional block: all but A shared by both directions."""
    x, z = xz.chunk(2, dim=1)
    x = _convolved(x, conv1d_weight, conv1d_bias)
    delta, B, C = _project(
        x, x_proj_weight, delta_proj_weight, B, C, A.shape[1], B_proj_bias, C_proj_bias
    )
    u, delta, B, C, z = (t.transpose(1, 2) for t in (x, delta, B, C, z))
    forward = selective_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    backward = selective_scan(u, delta, A_b, B, C, D, z, delta_bias, delta_softplus, reverse=True)
    assert isinstance(forward, Tensor)
    assert isinstance(backward, Tensor)
    return functional.linear(forward + backward, out_proj_weight, out_proj_bias)
