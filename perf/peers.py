"""The operations that published code runs, as short code from their formulas.

`reference_scan` materialises decays and inputs for all steps and loops over time, channels before
time: what mamba_ssm, Vim and AuM run without their CUDA extension. `loop_scan` is transformers'
recurrence, `parallel_scan` mambapy's where it is installed. `slow_mixer` is a whole Mamba block of
that kind, applied per direction on flipped input as Vim's is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "PLAIN",
    "Operations",
    "cuda_operations",
    "loop_scan",
    "parallel_scan",
    "reference_scan",
    "slow_block",
    "transformers_scan",
    "with_functions",
]

# u, delta, A, B, C, D, z, bias -> y, and x [batch, dim, length], weight, bias -> silu(convolution)
Operations = tuple[Callable[..., Tensor], Callable[[Tensor, Tensor, Tensor], Tensor]]


def reference_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, bias: Tensor
) -> Tensor:
    """u, delta, z [batch, dim, length]; B, C [batch, d_state, length]; softplus on the step."""
    step = functional.softplus(delta + bias[:, None])
    decays = torch.exp(torch.einsum("bdl,dn->bdln", step, A))
    inputs = torch.einsum("bdl,bnl,bdl->bdln", step, B, u)
    h = u.new_zeros(u.shape[0], u.shape[1], A.shape[1])
    ys = []
    for t in range(u.shape[2]):
        h = decays[:, :, t] * h + inputs[:, :, t]
        ys.append(torch.einsum("bdn,bn->bd", h, C[:, :, t]))
    return (torch.stack(ys, 2) + u * D[:, None]) * functional.silu(z)


def loop_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, bias: Tensor
) -> Tensor:
    """As `reference_scan`, with a matrix product per step, as transformers' slow path has."""
    step = functional.softplus(delta + bias[:, None])
    decays = torch.exp(A[None, :, None, :] * step[..., None])
    inputs = step[..., None] * B.transpose(1, 2)[:, None] * u[..., None]
    h = u.new_zeros(u.shape[0], u.shape[1], A.shape[1])
    ys = []
    for t in range(u.shape[2]):
        h = decays[:, :, t] * h + inputs[:, :, t]
        ys.append(torch.matmul(h, C[:, :, t, None])[..., 0])
    return (torch.stack(ys, -1) + u * D[:, None]) * functional.silu(z)


def transformers_scan() -> Callable[..., Tensor] | None:
    """Return transformers' own slow path, None where it is not installed."""
    try:
        from transformers.models.mamba import modeling_mamba
    except ImportError:
        return None
    scan: Any = getattr(modeling_mamba, "mamba_selective_scan", None)
    if scan is None:
        return None
    scan = getattr(scan, "__wrapped__", scan)
    return lambda u, delta, A, B, C, D, z, bias: scan(u, delta, A, B, C, D, z, bias, True)


def parallel_scan() -> Callable[..., Tensor] | None:
    """Return a scan on mambapy's pscan, None where it is not installed."""
    try:
        from mambapy.pscan import pscan
    except ImportError:
        return None

    def scan(u: Any, delta: Any, A: Any, B: Any, C: Any, D: Any, z: Any, bias: Any) -> Tensor:
        step = functional.softplus(delta + bias[:, None]).transpose(1, 2)
        x = u.transpose(1, 2)
        decays = torch.exp(step[..., None] * A)
        inputs = (step * x)[..., None] * B.transpose(1, 2)[:, :, None]
        y = (pscan(decays, inputs) @ C.transpose(1, 2)[..., None])[..., 0]
        return (y + D * x).transpose(1, 2) * functional.silu(z)

    return scan


def _plain_convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    dim, length = x.shape[1], x.shape[2]
    y = functional.conv1d(x, weight, bias, padding=weight.shape[-1] - 1, groups=dim)
    return functional.silu(y[..., :length])


PLAIN: Operations = (reference_scan, _plain_convolution)


def cuda_operations() -> Operations:
    """Return mamba_ssm's scan and causal-conv1d's convolution; ImportError where one is missing."""
    from causal_conv1d import causal_conv1d_fn
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    return with_functions(selective_scan_fn, causal_conv1d_fn)


def with_functions(scan: Callable[..., Any], convolve: Callable[..., Any]) -> Operations:
    """Return operations on functions with mamba_ssm's and causal_conv1d's signatures."""
    return (
        lambda u, delta, A, B, C, D, z, bias: scan(u, delta, A, B, C, D, z, bias, True),
        lambda x, weight, bias: convolve(x, weight[:, 0], bias, activation="silu"),
    )


def _half(
    x: Tensor,
    get: Callable[[str], Tensor],
    of: str,
    rates: tuple[str, ...],
    skip: str,
    operations: Operations,
) -> Tensor:
    """One path of a block on xz [batch, 2 * dim, length], channels first.

    A second name in `rates` adds a scan of the flipped inner tensors: the first kind of
    bidirectional block, which shares all else.
    """
    u, z = x.chunk(2, dim=1)
    dim, length = u.shape[1], u.shape[2]
    scan, convolve = operations
    u = convolve(u, get(f"conv1d{of}.weight"), get(f"conv1d{of}.bias"))
    step_weight = get(f"dt_proj{of}.weight")
    rank, n = step_weight.shape[1], get(rates[0]).shape[1]
    rows = functional.linear(u.transpose(1, 2).reshape(-1, dim), get(f"x_proj{of}.weight"))
    dt, B, C = rows.split((rank, n, n), dim=-1)
    dt = (step_weight @ dt.t()).view(dim, -1, length).transpose(0, 1)
    B, C = (t.view(-1, length, n).transpose(1, 2).contiguous() for t in (B, C))
    D, bias = get(skip), get(f"dt_proj{of}.bias")
    y = scan(u, dt, -torch.exp(get(rates[0])), B, C, D, z, bias)
    if len(rates) > 1:
        u, dt, B, C, z = (t.flip(-1) for t in (u, dt, B, C, z))
        y = y + scan(u, dt, -torch.exp(get(rates[1])), B, C, D, z, bias).flip(-1)
    return y


def slow_block(
    block: Any, hidden: Tensor, residual: Tensor | None, operations: Operations = PLAIN
) -> tuple[Tensor, Tensor]:
    """Run one of our blocks by the published operations: add, norm, and the mixer on what they
    fall back to without CUDA extensions, or on `operations`."""
    residual = hidden if residual is None else residual + hidden
    mixer, x = block.mixer, block.norm(residual)
    get, c = mixer.get_parameter, mixer.configuration
    xz = (get("in_proj.weight") @ x.transpose(1, 2)).contiguous()
    shared = c.directions == "v1"
    y = _half(xz, get, "", ("A_log", "A_b_log") if shared else ("A_log",), "D", operations)
    if c.directions == "v2":
        y = y + _half(xz.flip(-1), get, "_b", ("A_b_log",), "D_b", operations).flip(-1)
        y = y / 2 if c.divide_out else y
    return functional.linear(y.transpose(1, 2), get("out_proj.weight")), residual
