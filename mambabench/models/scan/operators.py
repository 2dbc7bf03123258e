"""The numba backend as torch operators: padding, autograd and tracing around the kernels.

`torch.ops.mambabench.selective_scan` and `causal_conv1d` have fake implementations and gradients,
so they pass through torch.compile and torch.export. Without gradients, outside of tracing, the
kernels are called directly: an operator's dispatch costs more than a small scan.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mambabench.models.scan import compiled
from mambabench.models.scan.functions import Direction

__all__ = ["bidirectional", "conv", "scan"]

_CHUNK = 16  # as in the kernels, which tracing need not import


def _needs_grad(tensors: tuple[Tensor | None, ...]) -> bool:
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def _plain(x: Tensor) -> bool:
    """Say whether `x` holds data here and now: no tracing, no tensor subclass."""
    return type(x) in (Tensor, torch.nn.Parameter) and not torch.compiler.is_compiling()


def _padded(x: Any, n: int) -> Any:
    """Return the tensor `x` (or None) with `n` more zeros on its last axis."""
    return None if x is None else functional.pad(x, (0, n))


def _padded_direction(direction: Direction, n: int) -> Direction:
    u, delta, A, B, C, D, bias = direction
    A = functional.pad(A, (0, 0, 0, n))
    u, delta, D, bias = (_padded(x, n) for x in (u, delta, D, bias))
    return Direction(u, delta, A, B, C, D, bias)


def scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    bias: Tensor | None, softplus: bool, reverse: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return y [batch, length, dim] and the last state [batch, dim, d_state]."""
    dim = u.shape[2]
    odd = -dim % 16
    if odd:
        u, delta, A, B, C, D, bias = _padded_direction(Direction(u, delta, A, B, C, D, bias), odd)
        z = _padded(z, odd)
    inputs = (u, delta, A, B, C, D, z, bias)
    grad = _needs_grad(inputs)
    if grad or not _plain(u):
        y, last, _ = torch.ops.mambabench.selective_scan(*inputs, softplus, reverse, grad)
    else:
        y, last, _ = compiled.scan_forward(*inputs, softplus, reverse, True)
    return (y[..., :dim], last[..., :dim].transpose(1, 2)) if odd else (y, last.transpose(1, 2))


def bidirectional(
    forward: Direction, backward: Direction, z: Tensor | None, softplus: bool, scale: float
) -> Tensor:
    """Return scale * (y_forward + y_backward) * silu(z), [batch, length, dim]."""
    u = forward.u
    if _needs_grad((*forward, *backward, z)) or not _plain(u):
        first = scan(*forward[:6], None, forward.delta_bias, softplus, False)[0]
        second = scan(*backward[:6], None, backward.delta_bias, softplus, True)[0]
        y = (first + second) * scale
        return y if z is None else y * functional.silu(z)
    odd = -u.shape[2] % 16
    if odd:
        forward, backward = (_padded_direction(x, odd) for x in (forward, backward))
        z = _padded(z, odd)
    return compiled.bidirectional_forward(forward, backward, z, softplus, scale)[..., : u.shape[2]]


def conv(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool) -> Tensor:
    """Return the convolved `x` [batch, length, dim]; `weight` [dim, taps]."""
    dim = x.shape[2]
    odd = -dim % 16
    if odd:
        x, bias = _padded(x, odd), _padded(bias, odd)
        weight = functional.pad(weight, (0, 0, 0, odd))
    if _needs_grad((x, weight, bias)) or not _plain(x):
        y = torch.ops.mambabench.causal_conv1d(x, weight, bias, silu, reverse)
    else:
        y = compiled.conv_forward(x, weight, bias, silu, reverse)
    return y[..., :dim] if odd else y  # type: ignore[no-any-return]


_SCAN = "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? bias"


def _operator(name: str, schema: str) -> Any:
    return torch.library.custom_op(
        f"mambabench::{name}", mutates_args=(), device_types="cpu", schema=schema
    )


@_operator(  # type: ignore[untyped-decorator]
    "selective_scan",
    f"({_SCAN}, bool softplus, bool reverse, bool keep) -> (Tensor, Tensor, Tensor)",
)
def _scan(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    *inputs, keep = arguments
    everything = [*inputs, True, keep]
    return compiled.scan_forward(*everything)


@_scan.register_fake  # type: ignore[untyped-decorator]
def _(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    u, _, A, *_, keep = arguments
    batch, length, dim = u.shape
    n = A.shape[1]
    saved = (batch, (length + _CHUNK - 1) // _CHUNK, n, dim) if keep else (0, 0, 0, 0)
    return u.new_empty((batch, length, dim)), u.new_empty((batch, n, dim)), u.new_empty(saved)


@_operator(  # type: ignore[untyped-decorator]
    "selective_scan_backward",
    f"(Tensor dout, Tensor? dlast, {_SCAN}, Tensor saved, bool softplus, bool reverse) -> "
    "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _scan_backward(*arguments: Any) -> tuple[Tensor, ...]:
    return compiled.scan_backward(*arguments)


@_scan_backward.register_fake  # type: ignore[untyped-decorator]
def _(*arguments: Any) -> tuple[Tensor, ...]:
    inputs = arguments[2:10]
    like = inputs[0]
    return tuple(like.new_empty((0,) if x is None else x.shape) for x in inputs)


def _keep_scan(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.softplus, ctx.reverse, keep = inputs
    ctx.kept = keep
    ctx.save_for_backward(*tensors, output[2])
    ctx.set_materialize_grads(False)


def _scan_gradients(ctx: Any, dout: Any, dlast: Any, _: Any) -> tuple[Tensor | None, ...]:
    *tensors, saved = ctx.saved_tensors
    if not ctx.kept:
        raise RuntimeError("mambabench::selective_scan keeps nothing to differentiate: keep=False")
    if dout is None:
        dout = torch.zeros_like(tensors[0])
    gradients = torch.ops.mambabench.selective_scan_backward(
        dout, dlast, *tensors, saved, ctx.softplus, ctx.reverse
    )
    found = [None if x is None else g for x, g in zip(tensors, gradients, strict=True)]
    return (*found, None, None, None)


_scan.register_autograd(_scan_gradients, setup_context=_keep_scan)


@_operator(  # type: ignore[untyped-decorator]
    "causal_conv1d", "(Tensor x, Tensor weight, Tensor? bias, bool silu, bool reverse) -> Tensor"
)
def _conv(*arguments: Any) -> Tensor:
    return compiled.conv_forward(*arguments)


@_conv.register_fake  # type: ignore[untyped-decorator]
def _(x: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape)


@_operator(  # type: ignore[untyped-decorator]
    "causal_conv1d_backward",
    "(Tensor dout, Tensor x, Tensor weight, Tensor? bias, bool silu, bool reverse) -> "
    "(Tensor, Tensor, Tensor)",
)
def _conv_backward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    return compiled.conv_backward(*arguments)


@_conv_backward.register_fake  # type: ignore[untyped-decorator]
def _(dout: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, *_: Any) -> tuple[Tensor, ...]:
    return tuple(x.new_empty((0,) if t is None else t.shape) for t in (x, weight, bias))


def _keep_conv(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.silu, ctx.reverse = inputs
    ctx.save_for_backward(*tensors)


def _conv_gradients(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
    tensors = ctx.saved_tensors
    found = torch.ops.mambabench.causal_conv1d_backward(dout, *tensors, ctx.silu, ctx.reverse)
    return (*(None if x is None else g for x, g in zip(tensors, found, strict=True)), None, None)


_conv.register_autograd(_conv_gradients, setup_context=_keep_conv)
