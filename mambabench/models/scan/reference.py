"""The selective scan and the causal convolution from their formulas, step by step, in torch.

h_t = exp(delta_t A) h_(t-1) + delta_t B_t u_t and y_t = C_t h_t + D u_t ("Mamba: Linear-Time
Sequence Modeling with Selective State Spaces", Gu and Dao 2023, section 3.2 and Algorithm 2, with
the simplified discretisation of B). Any floating dtype, differentiable; in float64 it is the truth
that every other backend is held to. `scan_chunked` is the same recurrence in larger steps for
machines without compiled kernels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mambabench.models.plain import is_transformed

__all__ = ["causal_conv", "conv", "scan", "scan_chunked", "scan_stepwise"]

_STEPS = 8  # measured best of 4 to 64 on a CPU: larger chunks leave the cache


def _step_sizes(delta: Tensor, bias: Tensor | None, softplus: bool) -> Tensor:
    if bias is not None:
        delta = delta + bias
    return functional.softplus(delta) if softplus else delta


def _finish(y: Tensor, u: Tensor, D: Tensor | None, z: Tensor | None) -> Tensor:
    if D is not None:
        y = y + u * D
    return y if z is None else y * functional.silu(z)


def scan_stepwise(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    bias: Tensor | None, softplus: bool, reverse: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return y [batch, length, dim] and the last state [batch, dim, d_state], one step at a time.

    `u`, `delta`, `z` [batch, length, dim]; `A` [dim, d_state]; `B`, `C` [batch, length, d_state];
    `D`, `bias` [dim]. All of one dtype. `B`, `C` may also be [dim, d_state], the same at all
    steps, or [batch, length, dim, d_state], one per channel.
    """
    steps = _step_sizes(delta, bias, softplus)
    h = u.new_zeros(u.shape[0], u.shape[2], A.shape[1])
    ys: list[Tensor] = []
    order = range(u.shape[1])
    for t in reversed(order) if reverse else order:
        decay = torch.exp(steps[:, t, :, None] * A)
        h = decay * h + (steps[:, t] * u[:, t])[..., None] * _at(B, t)
        ys.append((h * _at(C, t)).sum(-1))
    y = torch.stack(ys[::-1] if reverse else ys, 1) if ys else torch.zeros_like(u)
    return _finish(y, u, D, z), h


def _at(x: Tensor, t: int) -> Tensor:
    """Return B or C at step `t` so that it broadcasts to [batch, dim, d_state]."""
    if x.ndim == 2:
        return x
    return x[:, t] if x.ndim == 4 else x[:, t, None, :]


def scan_chunked(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    bias: Tensor | None, softplus: bool, reverse: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return what `scan_stepwise` does, several times faster: decays and drives are made for eight
    steps at once, time first. Differentiable; memory grows with 8 * batch * dim * d_state.
    """
    steps = _step_sizes(delta, bias, softplus).transpose(0, 1)
    drives = steps * u.transpose(0, 1)
    Bt, Ct = B.transpose(0, 1), C.transpose(0, 1)
    length = u.shape[1]
    h = u.new_zeros(u.shape[0], u.shape[2], A.shape[1])
    starts = range(0, length, _STEPS)
    ys: list[Tensor] = []
    for start in reversed(starts) if reverse else starts:
        part = slice(start, min(start + _STEPS, length))
        decays = torch.exp(steps[part, ..., None] * A)
        states = drives[part, ..., None] * Bt[part, :, None, :]
        h, states = _advance(decays, states, h, reverse)
        ys.append(torch.matmul(states, Ct[part, ..., None]).squeeze(-1))
    if not ys:
        return _finish(torch.zeros_like(u), u, D, z), h
    y = torch.cat(ys[::-1] if reverse else ys).transpose(0, 1)
    return _finish(y, u, D, z), h


def _advance(decays: Tensor, drives: Tensor, h: Tensor, reverse: bool) -> tuple[Tensor, Tensor]:
    """Return the state after a chunk and the states at its steps, [steps, batch, dim, d_state]."""
    order = range(len(drives))
    if torch.is_grad_enabled() or is_transformed((decays, drives, h)):
        states: list[Tensor] = []
        for t in reversed(order) if reverse else order:
            h = torch.addcmul(drives[t], decays[t], h)
            states.append(h)
        return h, torch.stack(states[::-1] if reverse else states)
    for t in reversed(order) if reverse else order:
        h = drives[t].addcmul_(decays[t], h)
    return h.clone(), drives


def causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool
) -> Tensor:
    """Convolve `x` [batch, length, dim] with `weight` [dim, taps] along time, per channel.

    Causal: output t sees inputs t - taps + 1 to t; reverse: inputs t to t + taps - 1, the flipped
    result of the flipped input.
    """
    taps = weight.shape[1]
    length = x.shape[1]
    y = torch.zeros_like(x) if bias is None else bias.expand_as(x)
    padded = functional.pad(x, (0, 0, 0, taps - 1) if reverse else (0, 0, taps - 1, 0))
    for k in range(taps):
        first = taps - 1 - k if reverse else k
        y = y + padded[:, first : first + length] * weight[:, k]
    return functional.silu(y) if silu else y


scan, conv = scan_stepwise, causal_conv  # the names that every backend's module has
