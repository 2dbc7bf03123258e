"""The numba backend as torch operators: padding, autograd and tracing around the kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mambabench.models.scan import compiled
from mambabench.models.scan.functions import Direction
from mambabench.models.scan.reference import causal_conv, scan_chunked

__all__ = ["bidirectional", "conv", "scan"]


def _needs_grad(tensors: tuple[Tensor | None, ...]) -> bool:
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def _padded(x: Any, n: int) -> Any:
    """Return the tensor `x` (or None) with `n` more zeros on its last axis."""
    return None if x is None else functional.pad(x, (0, n))


def scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    bias: Tensor | None, softplus: bool, reverse: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return y [batch, length, dim] and the last state [batch, dim, d_state]."""
    if _needs_grad((u, delta, A, B, C, D, z, bias)):
        return scan_chunked(u, delta, A, B, C, D, z, bias, softplus, reverse)
    dim = u.shape[2]
    odd = -dim % 16
    if odd:
        u, delta, z, D, bias = (_padded(x, odd) for x in (u, delta, z, D, bias))
        A = functional.pad(A, (0, 0, 0, odd))
    y, last, _ = compiled.scan_forward(u, delta, A, B, C, D, z, bias, softplus, reverse, True)
    return y[..., :dim], last[..., :dim].transpose(1, 2)


def _padded_direction(direction: Direction, n: int) -> Direction:
    u, delta, A, B, C, D, bias = direction
    A = functional.pad(A, (0, 0, 0, n))
    u, delta, D, bias = (_padded(x, n) for x in (u, delta, D, bias))
    return Direction(u, delta, A, B, C, D, bias)


def bidirectional(
    forward: Direction, backward: Direction, z: Tensor | None, softplus: bool, scale: float
) -> Tensor:
    """Return scale * (y_forward + y_backward) * silu(z), [batch, length, dim]."""
    if _needs_grad((*forward, *backward, z)):
        first = scan(*forward[:6], None, forward.delta_bias, softplus, False)[0]
        second = scan(*backward[:6], None, backward.delta_bias, softplus, True)[0]
        y = (first + second) * scale
        return y if z is None else y * functional.silu(z)
    dim = forward.u.shape[2]
    odd = -dim % 16
    if odd:
        forward, backward = (_padded_direction(x, odd) for x in (forward, backward))
        z = _padded(z, odd)
    return compiled.bidirectional_forward(forward, backward, z, softplus, scale)[..., :dim]


def conv(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool) -> Tensor:
    """Return the convolved `x` [batch, length, dim]; `weight` [dim, taps]."""
    if _needs_grad((x, weight, bias)):
        return causal_conv(x, weight, bias, silu, reverse)
    dim = x.shape[2]
    odd = -dim % 16
    if odd:
        x, bias = _padded(x, odd), _padded(bias, odd)
        weight = functional.pad(weight, (0, 0, 0, odd))
    return compiled.conv_forward(x, weight, bias, silu, reverse)[..., :dim]
