"""The selective scan and the causal convolution as mambabench's own code calls them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mambabench.errors import EncoderError
from mambabench.models.plain import is_transformed, sizes, untraced
from mambabench.models.scan.backends import BACKENDS, Request, choose_backend

__all__ = ["Direction", "causal_conv1d", "selective_scan", "selective_scan_bidirectional"]


_LOADED: dict[str, Any] = {}  # modules of the backends that were used


class Direction(NamedTuple):
    """The inputs of a scan in one direction, all in the order of time (nothing flipped)."""

    u: Tensor  # [batch, length, dim]
    delta: Tensor  # [batch, length, dim]
    A: Tensor  # [dim, d_state]
    B: Tensor  # [batch, length, d_state]
    C: Tensor  # [batch, length, d_state]
    D: Tensor | None = None  # [dim]
    delta_bias: Tensor | None = None  # [dim]


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    reverse: bool = False,
    return_last_state: bool = False,
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Return y [batch, length, dim] of the selective state space recurrence, times silu(z).

    `u`, `delta`, `z` [batch, length, dim]; `A` [dim, d_state]; `B`, `C` [batch, length, d_state];
    `D`, `delta_bias` [dim]. `delta_softplus`: the step is softplus(delta + delta_bias). `reverse`:
    from the last step to the first, as flipping every input and the result would do. With
    `return_last_state` also the state after the final step, [batch, dim, d_state], float32 or
    wider. float32 and float64 are computed as they are, narrower types in float32; y has the type
    of `u`. Strided inputs are read in place. `backend` names one of BACKENDS; by default the
    fastest that runs here. Source: "Mamba", Gu and Dao 2023, section 3.2.

    Raises EncoderError for shapes that do not fit and for a named backend that cannot run.
    """
    _check_scan(u, delta, A, B, C, D, z, delta_bias)
    tensors: tuple[Tensor | None, ...] = (u, delta, A, B, C, D, z, delta_bias)
    dtype, module = _dispatch(tensors, u, sizes(A)[1], backend)
    if dtype is not None:
        tensors = _cast(tensors, dtype)
    y, last = module.scan(*tensors, delta_softplus, reverse)
    y = y.to(u.dtype)
    return (y, last) if return_last_state else y


def selective_scan_bidirectional(
    forward: Direction,
    backward: Direction,
    z: Tensor | None = None,
    delta_softplus: bool = False,
    scale: float = 1.0,
    backend: str | None = None,
) -> Tensor:
    """Return scale * (y_forward + y_backward) * silu(z), the sum fused into the second scan.

    `backward` runs from the last step to the first on inputs in the order of time. Source: "Vision
    Mamba", Zhu et al. 2024, Algorithm 1. Raises as `selective_scan` does.
    """
    for direction in (forward, backward):
        u, delta, A, B, C, D, bias = direction
        _check_scan(u, delta, A, B, C, D, z, bias)
    first_shape, second_shape = tuple(sizes(forward.u)), tuple(sizes(backward.u))
    if first_shape != second_shape:
        raise EncoderError(
            f"the directions differ in shape: u is {first_shape} forward and {second_shape} "
            "backward"
        )
    tensors: tuple[Tensor | None, ...] = (*forward, *backward, z)
    dtype, module = _dispatch(tensors, forward.u, sizes(forward.A)[1], backend)
    if dtype is not None:
        tensors = _cast(tensors, dtype)
    pair: Any = tensors
    if hasattr(module, "bidirectional"):
        y = module.bidirectional(
            Direction(*pair[:7]), Direction(*pair[7:14]), tensors[14], delta_softplus, scale
        )
        return y.to(forward.u.dtype)  # type: ignore[no-any-return]
    first = module.scan(*tensors[:6], None, tensors[6], delta_softplus, False)[0]
    second = module.scan(*tensors[7:13], None, tensors[13], delta_softplus, True)[0]
    y = (first + second) * scale
    if tensors[14] is not None:
        y = y * functional.silu(tensors[14])
    return y.to(forward.u.dtype)  # type: ignore[no-any-return]


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    reverse: bool = False,
    backend: str | None = None,
) -> Tensor:
    """Return the depthwise causal convolution of `x` [batch, length, dim] along time, then SiLU.

    `weight` [dim, taps], `bias` [dim], `activation` None or "silu" (also called "swish").
    `reverse`: anti-causal, as flipping the input and the result would do. Raises EncoderError for
    shapes that do not fit, an unknown activation and a named backend that cannot run.
    """
    if activation not in (None, "silu", "swish"):
        raise EncoderError(f"activation={activation!r} is unknown: use 'silu' or None")
    _check_conv(x, weight, bias)
    tensors: tuple[Tensor | None, ...] = (x, weight, bias)
    dtype, module = _dispatch(tensors, x, 1, backend)
    if dtype is not None:
        tensors = _cast(tensors, dtype)
    y = module.conv(*tensors, activation is not None, reverse)
    return y.to(x.dtype)  # type: ignore[no-any-return]


def _dispatch(
    tensors: tuple[Tensor | None, ...], u: Tensor, d_state: int, backend: str | None
) -> tuple[torch.dtype | None, Any]:
    """Return the dtype to convert to (None: none) and the module that computes."""
    dtype, same, grad = torch.float32, True, False
    for x in tensors:
        if x is not None:
            same = same and x.dtype == u.dtype
            grad = grad or x.requires_grad
            if x.dtype == torch.float64:
                dtype = torch.float64
            if x.device != u.device:
                raise EncoderError(f"the inputs lie on {u.device} and on {x.device}: move them")
    grad = grad and torch.is_grad_enabled()
    transformed = is_transformed(tensors)
    name = _choose(u.device.type, dtype, d_state, grad, backend, transformed)
    module = _LOADED[name]
    if (same and u.dtype == dtype) or hasattr(module, "NARROW"):
        return None, module  # nothing to convert, or done there without widening the large inputs
    return dtype, module


def _choose(
    device: str, dtype: torch.dtype, d_state: int, grad: bool, backend: str | None,
    transformed: bool = False,
) -> str:  # fmt: skip
    """Return the name of the backend, its module loaded; tracing takes it for a constant."""
    name = choose_backend(Request(device, dtype, d_state, grad, transformed), backend)
    if name not in _LOADED:
        _LOADED[name] = BACKENDS[name].load()
    return name


# What torch.compiler.assume_constant_result sets; calling it imports torch's compiler, 1.3 s.
_choose._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _cast(tensors: tuple[Tensor | None, ...], dtype: torch.dtype) -> tuple[Tensor | None, ...]:
    return tuple(None if x is None else x.to(dtype) for x in tensors)


def _check_scan(*tensors: Tensor | None) -> None:
    if not torch.compiler.is_compiling() and torch._C._is_tracing():
        with untraced():
            _compare(*tensors)  # type: ignore[arg-type]
    else:
        _compare(*tensors)  # type: ignore[arg-type]


def _compare(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None,
    z: Tensor | None, bias: Tensor | None,
) -> None:  # fmt: skip
    if u.ndim != 3 or A.ndim != 2:
        raise EncoderError(
            f"u has shape {tuple(u.shape)} and A {tuple(A.shape)}: expected [batch, length, dim] "
            "and [dim, d_state]"
        )
    batch, length, dim = u.shape
    states = (batch, length, A.shape[1])
    expected = (
        ("delta", delta, u.shape), ("A", A, (dim, A.shape[1])), ("B", B, states),
        ("C", C, states), ("D", D, (dim,)), ("z", z, u.shape), ("delta_bias", bias, (dim,)),
    )  # fmt: skip
    for name, x, shape in expected:
        if x is not None and x.shape != shape:
            raise EncoderError(
                f"{name} has shape {tuple(x.shape)}, expected {tuple(shape)} beside u "
                f"{tuple(u.shape)} and A {tuple(A.shape)}"
            )
        if x is not None and not x.is_floating_point():
            raise EncoderError(f"{name} has dtype {x.dtype}: only real floating dtypes are scanned")
    if not u.is_floating_point():
        raise EncoderError(f"u has dtype {u.dtype}: only real floating dtypes are scanned")


def _check_conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    shape, taps = sizes(x), sizes(weight)
    if len(shape) != 3 or len(taps) != 2 or taps[0] != shape[2] or taps[1] < 1:
        raise EncoderError(
            f"x {tuple(shape)} and weight {tuple(taps)} do not fit: x is [batch, length, "
            "dim], weight is [dim, taps]"
        )
    if bias is not None and tuple(sizes(bias)) != tuple(shape[2:]):
        raise EncoderError(f"bias has shape {tuple(sizes(bias))}, expected {tuple(shape[2:])}")
