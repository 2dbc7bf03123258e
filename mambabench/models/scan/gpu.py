"""The triton backend: narrow inputs stay narrow, all else is float32; autograd by operators."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mambabench.models.scan.functions import Direction
from mambabench.models.scan.operators import run_conv, run_scan

__all__ = ["bidirectional", "conv", "scan"]

NARROW = True  # takes bfloat16 and float16 as they are: half the traffic


def _like(x: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if x is None else x.to(dtype)


def _small(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.float()


def scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    bias: Tensor | None, softplus: bool, reverse: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return y [batch, length, dim] of u's type and the last state [batch, dim, d_state]."""
    inputs = (
        u, delta.to(u.dtype), A.float(), B.float(), C.float(), _small(D), _like(z, u.dtype),
        _small(bias), softplus, reverse,
    )  # fmt: skip
    y, last = run_scan("gpu_kernels", inputs)
    return y, last.transpose(1, 2)


def bidirectional(
    forward: Direction, backward: Direction, z: Tensor | None, softplus: bool, scale: float
) -> Tensor:
    """Return scale * (y_forward + y_backward) * silu(z), [batch, length, dim]."""
    tensors = (*forward, *backward, z)
    grad = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)
    if grad or torch.compiler.is_compiling():
        ahead = scan(*forward[:6], None, forward.delta_bias, softplus, False)[0]
        back = scan(*backward[:6], None, backward.delta_bias, softplus, True)[0]
        y = (ahead.float() + back.float()) * scale
        return y if z is None else y * functional.silu(z.float())
    from mambabench.models.scan import gpu_kernels

    dtype = forward.u.dtype
    first, second = (
        Direction(
            x.u.to(dtype), x.delta.to(dtype), x.A.float(), x.B.float(), x.C.float(), _small(x.D),
            _small(x.delta_bias),
        )
        for x in (forward, backward)
    )  # fmt: skip
    return gpu_kernels.bidirectional_forward(first, second, _like(z, dtype), softplus, scale)


def conv(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool) -> Tensor:
    """Return the convolved `x` [batch, length, dim]; `weight` [dim, taps]."""
    return run_conv("gpu_kernels", (x, weight.float(), _small(bias), silu, reverse))
