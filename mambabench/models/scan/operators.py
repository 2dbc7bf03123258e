"""Compiled kernels as torch operators: padding, autograd and tracing around them.

The module's own functions are the numba backend; the operators serve the GPU kernels too.

`torch.ops.mambabench.selective_scan` and `causal_conv1d` have fake implementations and gradients,
so they pass through torch.compile and torch.export. Without gradients, outside of tracing, the
kernels are called directly: an operator's dispatch costs more than a small scan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mambabench.models.plain import is_eager, is_transformed, sizes
from mambabench.models.scan.functions import Direction
from mambabench.models.scan.reference import causal_conv, scan_chunked

__all__ = ["bidirectional", "conv", "run_conv", "run_scan", "scan"]

_CHUNK = {"compiled": 16, "gpu_kernels": 8}  # as in the kernels, which tracing need not import


def _needs_grad(tensors: tuple[Tensor | None, ...]) -> bool:
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def _traced() -> bool:
    return not torch.compiler.is_compiling() and torch._C._is_tracing()


def _kernels(name: str) -> Any:
    return import_module(f"mambabench.models.scan.{name}")


def run_scan(kernels: str, inputs: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
    """Return y and the last state [batch, d_state, dim] from the module `kernels`, as an operator
    where gradients or tracing ask for one. `inputs`: u to delta_bias, softplus, reverse."""
    grad = _needs_grad(inputs[:8])
    if grad or not is_eager(inputs[0]):
        keep = grad or _traced()  # a trace may be used with gradients later
        y, last, _ = torch.ops.mambabench.selective_scan(*inputs, keep, kernels)
    else:
        y, last, _ = _kernels(kernels).scan_forward(*inputs, True)
    return y, last


def run_conv(kernels: str, inputs: tuple[Any, ...]) -> Tensor:
    """Convolve with the module `kernels`; `inputs`: x, weight, bias, silu, reverse."""
    if _needs_grad(inputs[:3]) or not is_eager(inputs[0]):
        return torch.ops.mambabench.causal_conv1d(*inputs, kernels)  # type: ignore[no-any-return]
    return _kernels(kernels).conv_forward(*inputs)  # type: ignore[no-any-return]


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
    dim = sizes(u)[2]
    odd = -dim % 16
    if odd:
        u, delta, A, B, C, D, bias = _padded_direction(Direction(u, delta, A, B, C, D, bias), odd)
        z = _padded(z, odd)
    y, last = run_scan("compiled", (u, delta, A, B, C, D, z, bias, softplus, reverse))
    return (y[..., :dim], last[..., :dim].transpose(1, 2)) if odd else (y, last.transpose(1, 2))


def bidirectional(
    forward: Direction, backward: Direction, z: Tensor | None, softplus: bool, scale: float
) -> Tensor:
    """Return scale * (y_forward + y_backward) * silu(z), [batch, length, dim]."""
    u = forward.u
    if _needs_grad((*forward, *backward, z)) or not is_eager(u):
        first = scan(*forward[:6], None, forward.delta_bias, softplus, False)[0]
        second = scan(*backward[:6], None, backward.delta_bias, softplus, True)[0]
        y = (first + second) * scale
        return y if z is None else y * functional.silu(z)
    odd = -u.shape[2] % 16
    if odd:
        forward, backward = (_padded_direction(x, odd) for x in (forward, backward))
        z = _padded(z, odd)
    run = _kernels("compiled").bidirectional_forward
    found: Tensor = run(forward, backward, z, softplus, scale)
    return found[..., : u.shape[2]] if odd else found


def conv(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool) -> Tensor:
    """Return the convolved `x` [batch, length, dim]; `weight` [dim, taps]."""
    dim = sizes(x)[2]
    odd = -dim % 16
    if odd:
        x, bias = _padded(x, odd), _padded(bias, odd)
        weight = functional.pad(weight, (0, 0, 0, odd))
    y = run_conv("compiled", (x, weight, bias, silu, reverse))
    return y[..., :dim] if odd else y


_SCAN = "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? bias"


def _operator(name: str, schema: str) -> Any:
    return torch.library.custom_op(f"mambabench::{name}", mutates_args=(), schema=schema)


@_operator(  # type: ignore[untyped-decorator]
    "selective_scan",
    f"({_SCAN}, bool softplus, bool reverse, bool keep, str kernels) -> (Tensor, Tensor, Tensor)",
)
def _scan(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    *inputs, keep, kernels = arguments
    return _kernels(kernels).scan_forward(*inputs, True, keep)  # type: ignore[no-any-return]


@_scan.register_fake  # type: ignore[untyped-decorator]
def _(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    u, _, A, *_, keep, kernels = arguments
    chunk = _CHUNK[kernels]
    batch, length, dim = u.shape
    n = A.shape[1]
    saved = (batch, (length + chunk - 1) // chunk, n, dim) if keep else (0, 0, 0, 0)
    return u.new_empty((batch, length, dim)), A.new_empty((batch, n, dim)), A.new_empty(saved)


@_operator(  # type: ignore[untyped-decorator]
    "selective_scan_backward",
    f"(Tensor dout, Tensor? dlast, {_SCAN}, Tensor saved, bool softplus, bool reverse, str kernels)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _scan_backward(*arguments: Any) -> tuple[Tensor, ...]:
    *inputs, kernels = arguments
    return _kernels(kernels).scan_backward(*inputs)  # type: ignore[no-any-return]


@_scan_backward.register_fake  # type: ignore[untyped-decorator]
def _(*arguments: Any) -> tuple[Tensor, ...]:
    inputs = arguments[2:10]
    like = inputs[0]
    return tuple(like.new_empty((0,)) if x is None else x.new_empty(x.shape) for x in inputs)


def _keep_scan(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.softplus, ctx.reverse, ctx.kept, ctx.kernels = inputs
    ctx.save_for_backward(*tensors, output[2])
    ctx.set_materialize_grads(False)


def _again(tensors: Sequence[Tensor | None], given: Sequence[Tensor | None]) -> bool:
    """Say whether gradients are asked for that have gradients or pass torch.func's transforms."""
    asked = torch.is_grad_enabled() and not torch.compiler.is_compiling()
    return asked or is_transformed((*tensors, *given))


def _differentiable(
    function: Callable[..., Any], tensors: Sequence[Any], given: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """Return the gradients of `tensors` under `function`, in torch's own operations.

    `given` are the gradients of its results. Slower than the kernels, for second derivatives only.
    """
    with torch.enable_grad():
        results = function(*tensors)
        pairs = [(y, g.to(y.dtype)) for y, g in zip(results, given, strict=False) if g is not None]
        wanted = [x for x in tensors if x is not None and x.requires_grad]
        found = iter(
            torch.autograd.grad(
                [y for y, _ in pairs], wanted, [g for _, g in pairs], create_graph=True,
                allow_unused=True,
            )
        )  # fmt: skip
    return tuple(next(found) if x is not None and x.requires_grad else None for x in tensors)


def _wide(tensors: Sequence[Tensor | None]) -> list[Any]:
    return [x if x is None or x.dtype == torch.float64 else x.float() for x in tensors]


def _scan_of(softplus: bool, reverse: bool) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return the scan with the operator's results, in float32 or wider, by torch alone."""

    def scan_again(*tensors: Tensor | None) -> tuple[Tensor, Tensor]:
        u, delta, A, B, C, D, z, bias = _wide(tensors)
        y, last = scan_chunked(u, delta, A, B, C, D, z, bias, softplus, reverse)
        return y, last.transpose(1, 2)

    return scan_again


def _scan_gradients(ctx: Any, dout: Any, dlast: Any, _: Any) -> tuple[Tensor | None, ...]:
    *tensors, saved = ctx.saved_tensors
    if not ctx.kept:
        raise RuntimeError("mambabench::selective_scan keeps nothing to differentiate: keep=False")
    if dout is None:
        dout = torch.zeros_like(tensors[0])
    if _again(tensors, (dout, dlast)):
        again = _differentiable(_scan_of(ctx.softplus, ctx.reverse), tensors, (dout, dlast))
        return (*again, None, None, None, None)
    gradients = torch.ops.mambabench.selective_scan_backward(
        dout, dlast, *tensors, saved, ctx.softplus, ctx.reverse, ctx.kernels
    )
    found = [None if x is None else g for x, g in zip(tensors, gradients, strict=True)]
    return (*found, None, None, None, None)


_scan.register_autograd(_scan_gradients, setup_context=_keep_scan)


@_operator(  # type: ignore[untyped-decorator]
    "causal_conv1d",
    "(Tensor x, Tensor weight, Tensor? bias, bool silu, bool reverse, str kernels) -> Tensor",
)
def _conv(*arguments: Any) -> Tensor:
    *inputs, kernels = arguments
    return _kernels(kernels).conv_forward(*inputs)  # type: ignore[no-any-return]


@_conv.register_fake  # type: ignore[untyped-decorator]
def _(x: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape)


@_operator(  # type: ignore[untyped-decorator]
    "causal_conv1d_backward",
    "(Tensor dout, Tensor x, Tensor weight, Tensor? bias, bool silu, bool reverse, str kernels) -> "
    "(Tensor, Tensor, Tensor)",
)
def _conv_backward(
    dout: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool,
    kernels: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of (x, weight, bias), the last one empty without a bias."""
    module = _kernels(kernels)
    if hasattr(module, "conv_backward"):
        found = module.conv_backward(dout, x, weight, bias, silu, reverse)
        return found  # type: ignore[no-any-return]
    convolve = module.conv_forward
    if silu:
        y = convolve(x, weight, bias, False, reverse)
        s = torch.sigmoid(y)
        dout = dout * s * (1 + y * (1 - s))
    taps, length = weight.shape[1], x.shape[1]
    dweight = torch.empty_like(weight, memory_format=torch.contiguous_format)
    for k in range(taps):
        n = max(length - (taps - 1 - k), 0)  # time steps that see this tap
        ends, starts = slice(length - n, length), slice(0, n)
        there, here = (ends, starts) if reverse else (starts, ends)
        dweight[:, k] = (x[:, there] * dout[:, here]).sum((0, 1))
    dbias = dout.new_empty((0,)) if bias is None else dout.sum((0, 1)).to(bias.dtype)
    return convolve(dout, weight, None, False, not reverse), dweight, dbias


@_conv_backward.register_fake  # type: ignore[untyped-decorator]
def _(dout: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, *_: Any) -> tuple[Tensor, ...]:
    return tuple(
        x.new_empty((0,)) if t is None else t.new_empty(t.shape) for t in (x, weight, bias)
    )


def _keep_conv(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.silu, ctx.reverse, ctx.kernels = inputs
    ctx.save_for_backward(*tensors)


def _conv_gradients(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
    tensors = ctx.saved_tensors
    settings = (ctx.silu, ctx.reverse, ctx.kernels)
    if _again(tensors, (dout,)):

        def convolve(*inputs: Tensor | None) -> tuple[Tensor]:
            x, weight, bias = _wide(inputs)
            return (causal_conv(x, weight, bias, ctx.silu, ctx.reverse),)

        return (*_differentiable(convolve, tensors, (dout,)), None, None, None)
    found = torch.ops.mambabench.causal_conv1d_backward(dout, *tensors, *settings)
    gradients = (None if x is None else g for x, g in zip(tensors, found, strict=True))
    return (*gradients, None, None, None)


_conv.register_autograd(_conv_gradients, setup_context=_keep_conv)
