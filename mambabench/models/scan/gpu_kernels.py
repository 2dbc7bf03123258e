"""Launches of the GPU kernels, with the interface of `compiled`: tensors in, tensors out.

u, delta, z and the gradients of them may be float32, bfloat16 or float16, one type for all three;
everything else is float32.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

import torch
from torch import Tensor

from mambabench.models.scan import triton_kernels as kernels

__all__ = ["bidirectional_forward", "conv_forward", "scan_backward", "scan_forward"]

# Below this many programs of 64 channels a GPU is not full: 132 processors, each with four
# schedulers that hide latency with a few warps. Half as many channels, twice as many programs.
_FULL = 2000
_AHEAD = {True: 4, False: 2}  # steps loaded ahead; more for few states, whose registers are free


def _fast() -> bool:
    return os.environ.get("TRITON_INTERPRET") != "1"


def _rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _on(x: Tensor) -> Any:
    """Make x's GPU the current one: triton launches there."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()


def launch_parameters(batch: int, dim: int, d_state: int) -> tuple[int, int]:
    """Return channels per program and steps loaded ahead."""
    block = 64 if d_state <= 32 and batch * -(-dim // 64) >= _FULL else 32
    return block, _AHEAD[d_state <= 16]


def _scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    bias: Tensor | None, softplus: bool, reverse: bool, out: Tensor, *,
    last: Tensor | None = None, saved: Tensor | None = None,
    accumulate: bool = False, scale: float = 1.0,
) -> None:  # fmt: skip
    batch, length, dim = u.shape
    n = A.shape[1]
    if out.numel() == 0:
        if last is not None:
            last.zero_()
        return
    u, delta, B, C = _rows(u), _rows(delta), _rows(B), _rows(C)
    gate = u if z is None else _rows(z)
    rates = A.t().contiguous()
    block, ahead = launch_parameters(batch, dim, n)
    none = rates  # stands where an argument is absent; never read
    strides = (x.stride(i) for x in (u, delta, B, C, gate, out) for i in (0, 1))
    with _on(u):
        kernels.scan_kernel[(batch, -(-dim // block))](
            u, delta, rates, B, C, none if D is None else D.contiguous(), gate,
            none if bias is None else bias.contiguous(), out, none if last is None else last,
            none if saved is None else saved, length, dim, *strides, scale,
            N=n, BLOCK=block, AHEAD=ahead, SOFTPLUS=softplus, REVERSE=reverse, ADD=accumulate,
            SKIP=D is not None, GATE=z is not None, BIAS=bias is not None, LAST=last is not None,
            SAVE=saved is not None, EVERY=kernels.CHUNK, FAST=_fast(), num_warps=1,
        )  # fmt: skip


def scan_forward(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    bias: Tensor | None, softplus: bool, reverse: bool, want_last: bool, want_saved: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return y [batch, length, dim], the last state [batch, d_state, dim] and, for the backward,
    the states before every chunk [batch, chunks, d_state, dim]; the last two empty if not wanted.
    """
    batch, length, dim = u.shape
    n = A.shape[1]
    out = torch.empty((batch, length, dim), dtype=u.dtype, device=u.device)
    wide = A.new_empty
    last = wide((batch, n, dim) if want_last else (0, 0, 0))
    chunks = -(-length // kernels.CHUNK)
    saved = wide((batch, chunks, n, dim) if want_saved else (0, 0, 0, 0))
    _scan(
        u, delta, A, B, C, D, z, bias, softplus, reverse, out,
        last=last if want_last else None, saved=saved if want_saved else None,
    )  # fmt: skip
    return out, last, saved


def bidirectional_forward(
    forward: Any, backward: Any, z: Tensor | None, softplus: bool, scale: float
) -> Tensor:
    """Return scale * (y_forward + y_backward) * silu(z); the sum between is float32."""
    out = torch.empty(forward.u.shape, dtype=torch.float32, device=forward.u.device)
    for (u, delta, A, B, C, D, bias), reverse in ((forward, False), (backward, True)):
        _scan(
            u, delta, A, B, C, D, z if reverse else None, bias, softplus, reverse, out,
            accumulate=reverse, scale=scale,
        )  # fmt: skip
    return out if z is not None or scale == 1.0 else out.mul_(scale)


def scan_backward(
    dout: Tensor, dlast: Tensor | None, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
    D: Tensor | None, z: Tensor | None, bias: Tensor | None, saved: Tensor, softplus: bool,
    reverse: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Return the gradients of (u, delta, A, B, C, D, z, bias); empty ones for absent inputs."""
    batch, length, dim = u.shape
    n = A.shape[1]
    u, delta, dout = (_rows(x) for x in (u, delta, dout))
    B, C = (x.transpose(1, 2).contiguous() for x in (B, C))
    gate = u if z is None else _rows(z)
    rates = A.t().contiguous()
    block = 32
    blocks = -(-dim // block)
    wide = rates.new_zeros
    du, ddelta = (torch.zeros(u.shape, dtype=u.dtype, device=u.device) for _ in range(2))
    dz = torch.zeros(u.shape if z is not None else (0,), dtype=u.dtype, device=u.device)
    adjoint, dA = wide((batch, n, dim)), wide((batch, n, dim))
    dB, dC = (wide((batch, blocks, n, length)) for _ in range(2))
    dD, dbias = wide((batch, dim)), wide((batch, dim))
    strides = (x.stride(i) for x in (u, delta, gate, dout, du) for i in (0, 1))
    none = rates
    if u.numel():
        with _on(u):
            kernels.scan_backward_kernel[(batch, blocks)](
                u, delta, rates, B, C, none if D is None else D.contiguous(), gate,
                none if bias is None else bias.contiguous(), saved, dout,
                none if dlast is None else dlast.contiguous(), du, ddelta,
                dz if z is not None else du, adjoint, dA, dB, dC, dD, dbias, length, dim, n,
                *strides, STEPS=kernels.CHUNK, BLOCK=block, SOFTPLUS=softplus, REVERSE=reverse,
                SKIP=D is not None, GATE=z is not None, BIAS=bias is not None,
                LAST=dlast is not None, FAST=_fast(), num_warps=1,
            )  # fmt: skip
    dB, dC = (x.sum(1).transpose(1, 2).contiguous() for x in (dB, dC))
    return (
        du, ddelta, dA.sum(0).t().contiguous(), dB, dC,
        dD.sum(0) if D is not None else wide((0,)), dz,
        dbias.sum(0) if bias is not None else wide((0,)),
    )  # fmt: skip


def conv_forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool,
    weight_b: Tensor | None = None, bias_b: Tensor | None = None,
) -> Any:  # fmt: skip
    """Convolve `x` [batch, length, dim]; with `weight_b` return both directions of one read."""
    batch, length, dim = x.shape
    x = _rows(x)
    both = weight_b is not None
    out = torch.empty((batch, length, dim), dtype=x.dtype, device=x.device)
    out_b = torch.empty_like(out) if both else out
    rows, block = 16, 64
    none = weight = weight.contiguous()
    if out.numel():
        with _on(x):
            kernels.conv_kernel[(batch, -(-length // rows), -(-dim // block))](
                x, weight, none if bias is None else bias.contiguous(), out,
                none if weight_b is None else weight_b.contiguous(),
                none if bias_b is None else bias_b.contiguous(), out_b, length, dim,
                x.stride(0), x.stride(1), out.stride(0), out.stride(1), TAPS=weight.shape[1],
                ROWS=rows, BLOCK=block, SILU=silu, REVERSE=reverse, BIAS=bias is not None,
                BOTH=both, FAST=_fast(), num_warps=4,
            )  # fmt: skip
    return (out, out_b) if both else out
