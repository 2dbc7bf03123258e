"""The numba backend: tensors in, addresses and strides to the kernels, tensors out.

Where torch runs with several threads, large scans are cut into ranges of channel blocks that run
on as many (the kernels release the GIL). Blocks are independent, so the bytes of a result do not
depend on the number of threads. No OpenMP: a process that has used this may fork.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mambabench.models.scan import kernels

__all__ = [
    "bidirectional_forward",
    "conv_backward",
    "conv_forward",
    "scan_backward",
    "scan_forward",
]

_KINDS = {torch.float32: np.float32(0), torch.float64: np.float64(0)}
_WIDTH = 16  # channels come in multiples of this; others are padded by the caller
_STATES_PER_THREAD = 1_000_000  # about 0.3 ms: below that a second thread costs more than it brings
_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    global _pool
    _pool = None


os.register_at_fork(after_in_child=_forget_pool)  # threads do not survive a fork


def _in_ranges(function: Callable[[int, int], None], n_items: int, n_states: int) -> None:
    """Call `function(first, end)` on ranges that cover n_items, on several threads if it pays."""
    global _pool
    n_threads = min(torch.get_num_threads(), n_items, n_states // _STATES_PER_THREAD)
    if n_threads < 2:
        function(0, n_items)
        return
    if _pool is None:
        _pool = ThreadPoolExecutor(64, thread_name_prefix="mambabench-scan")
    cuts = [n_items * i // n_threads for i in range(n_threads + 1)]
    jobs = [_pool.submit(function, a, b) for a, b in pairwise(cuts[1:])]
    function(0, cuts[1])
    for job in jobs:
        job.result()


def _rows(x: Tensor) -> Tensor:
    """Return `x` with unit stride over its last axis."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _address(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()


def _strided(x: Tensor | None) -> tuple[int, int, int]:
    """Return the address of [batch, length, ...] and its strides over batch and time."""
    return (0, 0, 0) if x is None else (x.data_ptr(), x.stride(0), x.stride(1))


def _scratch(n_elements: int, like: Tensor) -> tuple[Tensor, int]:
    """Return memory for n_elements (keep it alive) and its first address that 64 divides."""
    memory = torch.empty(n_elements + 64 // like.element_size(), dtype=like.dtype)
    return memory, (memory.data_ptr() + 63) & -64


def run_scan(
    u: Tensor, delta: Tensor, rates: Tensor, B: Tensor, C: Tensor, D: Tensor | None,
    z: Tensor | None, bias: Tensor | None, softplus: bool, reverse: bool, out: Tensor, *,
    last: Tensor | None = None, saved: Tensor | None = None,
    accumulate: bool = False, scale: float = 1.0, weight: Tensor | None = None,
) -> None:  # fmt: skip
    """Scan into `out`; all of one dtype on the CPU, dim a multiple of 16.

    `rates` is A transposed, [d_state, dim], contiguous; so are `D` and `bias`. With `weight`
    [rank, dim], contiguous, `delta` is [batch, length, rank] and the steps are their product.
    """
    batch, length, dim = u.shape
    d_state = rates.shape[0]
    u, delta, B, C = _rows(u), _rows(delta), _rows(B), _rows(C)
    z = None if z is None else _rows(z)
    lanes = 64 // u.element_size()
    vectors = 2 if dim % (2 * lanes) == 0 else 1
    arguments: tuple[Any, ...] = (
        _KINDS[u.dtype], *_strided(u), *_strided(delta), rates.data_ptr(), *_strided(B),
        *_strided(C), _address(D), *_strided(z), _address(bias), *_strided(out), _address(last),
        _address(saved), length, dim, d_state, vectors, int(softplus), int(reverse),
        int(accumulate), float(scale), _address(weight), 0 if weight is None else weight.shape[0],
    )  # fmt: skip

    def blocks(first: int, end: int) -> None:
        memory, address = _scratch(vectors * (2 * d_state + 50) * lanes, u)
        kernels.scan_forward(*arguments, address, first, end)
        del memory

    _in_ranges(blocks, batch * dim // (lanes * vectors), batch * length * dim * d_state)


def scan_forward(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    bias: Tensor | None, softplus: bool, reverse: bool, want_last: bool, want_saved: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return y [batch, length, dim], the last state [batch, d_state, dim] and, for the backward,
    the states before every chunk [batch, chunks, d_state, dim]; the last two empty if not wanted.
    """
    batch, length, dim = u.shape
    d_state = A.shape[1]
    out = torch.empty((batch, length, dim), dtype=u.dtype)
    last = out.new_empty((batch, d_state, dim) if want_last else (0, 0, 0))
    chunks = -(-length // kernels.CHUNK)
    saved = out.new_empty((batch, chunks, d_state, dim) if want_saved else (0, 0, 0, 0))
    D, bias = (None if x is None else x.contiguous() for x in (D, bias))
    run_scan(
        u, delta, A.t().contiguous(), B, C, D, z, bias, softplus, reverse, out,
        last=last if want_last else None, saved=saved if want_saved else None,
    )  # fmt: skip
    return out, last, saved


def scan_backward(
    dout: Tensor, dlast: Tensor | None, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
    D: Tensor | None, z: Tensor | None, bias: Tensor | None, saved: Tensor, softplus: bool,
    reverse: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Return the gradients of (u, delta, A, B, C, D, z, bias); empty ones for absent inputs.

    `dout` [batch, length, dim]; `dlast` [batch, d_state, dim]; `saved` from `scan_forward`.
    """
    batch, length, dim = u.shape
    d_state = A.shape[1]
    u, delta, B, C, dout = _rows(u), _rows(delta), _rows(B), _rows(C), _rows(dout)
    z = None if z is None else _rows(z)
    D, bias, dlast = (None if x is None else x.contiguous() for x in (D, bias, dlast))
    rates = A.t().contiguous()
    padded = -(-length // kernels.CHUNK) * kernels.CHUNK
    new = u.new_empty
    du, ddelta, dz = new(u.shape), new(u.shape), new(u.shape if z is not None else (0, 0, 0))
    dA = new((batch, d_state, dim))
    dB, dC = (u.new_zeros((batch, d_state, padded)) for _ in range(2))
    dD = new((batch if D is not None else 0, dim))
    dbias = new((batch if bias is not None else 0, dim))
    lanes = 64 // u.element_size()
    vectors = 2 if dim % (2 * lanes) == 0 else 1
    arguments: tuple[Any, ...] = (
        _KINDS[u.dtype], *_strided(u), *_strided(delta), rates.data_ptr(), *_strided(B),
        *_strided(C), _address(D), *_strided(z), _address(bias), saved.data_ptr(),
        *_strided(dout), _address(dlast), du.data_ptr(), ddelta.data_ptr(), dz.data_ptr(),
        du.stride(0), du.stride(1), dA.data_ptr(), dB.data_ptr(), dC.data_ptr(), dD.data_ptr(),
        dbias.data_ptr(), length, dim, d_state, padded, vectors, int(softplus), int(reverse),
    )  # fmt: skip

    def elements(first: int, end: int) -> None:
        memory, address = _scratch((vectors * (3 * d_state + 112) + 65) * lanes, u)
        kernels.scan_backward(*arguments, address, first, end)
        del memory

    _in_ranges(elements, batch, batch * length * dim * d_state)
    dB, dC = (_in_time(x[..., :length], reverse) for x in (dB, dC))
    dD = new((0,)) if D is None else dD.sum(0)
    dbias = new((0,)) if bias is None else dbias.sum(0)
    return du, ddelta, dA.sum(0).t().contiguous(), dB, dC, dD, dz, dbias


def _in_time(x: Tensor, reverse: bool) -> Tensor:
    """Return [batch, d_state, length] in the order of the scan as [batch, length, d_state]."""
    x = x.flip(2) if reverse else x
    return x.transpose(1, 2).clone(memory_format=torch.contiguous_format)


def bidirectional_forward(
    forward: Any, backward: Any, z: Tensor | None, softplus: bool, scale: float
) -> Tensor:
    """Return scale * (y_forward + y_backward) * silu(z) with no flips and no intermediate sum."""
    out = torch.empty(forward.u.shape, dtype=forward.u.dtype)
    for (u, delta, A, B, C, D, bias), reverse in ((forward, False), (backward, True)):
        D, bias = (None if x is None else x.contiguous() for x in (D, bias))
        run_scan(
            u, delta, A.t().contiguous(), B, C, D, z if reverse else None, bias, softplus,
            reverse, out, accumulate=reverse, scale=scale,
        )  # fmt: skip
    return out if z is not None or scale == 1.0 else out.mul_(scale)


def conv_forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool
) -> Tensor:
    """Convolve `x` [batch, length, dim] with `weight` [dim, taps]; dim a multiple of 16."""
    out = torch.empty(x.shape, dtype=x.dtype)
    bias = None if bias is None else bias.contiguous()
    run_conv(x, weight.t().contiguous(), bias, out, silu, reverse)
    return out


def conv_backward(
    dout: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of (x, weight, bias), the last one empty without a bias."""
    batch, length, dim = x.shape
    x, dout = _rows(x), _rows(dout)
    bias = None if bias is None else bias.contiguous()
    taps = weight.t().contiguous()
    dx = x.new_empty(x.shape)
    dweight, dbias = torch.zeros_like(taps), x.new_zeros(0 if bias is None else dim)
    arguments: tuple[Any, ...] = (
        _KINDS[x.dtype], *_strided(x), *_strided(dout), taps.data_ptr(), _address(bias),
        *_strided(dx), dweight.data_ptr(), _address(None if bias is None else dbias), batch,
        length, dim, taps.shape[0], int(silu), int(reverse),
    )  # fmt: skip

    def blocks(first: int, end: int) -> None:
        kernels.conv_backward(*arguments, first, end)

    _in_ranges(blocks, dim * x.element_size() // 64, 3 * batch * length * dim)
    return dx, dweight.t().contiguous(), dbias


def run_conv(
    x: Tensor, taps: Tensor, bias: Tensor | None, out: Tensor, silu: bool, reverse: bool,
    taps_b: Tensor | None = None, bias_b: Tensor | None = None, out_b: Tensor | None = None,
) -> None:  # fmt: skip
    """Convolve into `out` and, where given, the other direction into `out_b`; `taps` [n, dim]."""
    batch, length, dim = x.shape
    x = _rows(x)
    arguments: tuple[Any, ...] = (
        _KINDS[x.dtype], *_strided(x), taps.data_ptr(), _address(bias), *_strided(out),
        _address(taps_b), _address(bias_b), _address(out_b), length, dim, taps.shape[0],
        int(silu), int(reverse),
    )  # fmt: skip

    def blocks(first: int, end: int) -> None:
        kernels.conv_forward(*arguments, first, end)

    # a convolved element costs about as much as a state update
    _in_ranges(blocks, batch * dim * x.element_size() // 64, batch * length * dim)


def add_norm(
    x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor | None, rms: bool,
    epsilon: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return norm(x + residual) and x + residual (`x` itself without a residual).

    All contiguous and of one dtype; the last axis a multiple of 16.
    """
    out = torch.empty(x.shape, dtype=x.dtype)
    total = x if residual is None else torch.empty(x.shape, dtype=x.dtype)
    dim = x.shape[-1]
    arguments: tuple[Any, ...] = (
        _KINDS[x.dtype], x.data_ptr(), _address(residual), weight.data_ptr(), _address(bias),
        total.data_ptr(), out.data_ptr(), dim, int(rms), epsilon,
    )  # fmt: skip

    def rows(first: int, end: int) -> None:
        kernels.add_norm(*arguments, first, end)

    _in_ranges(rows, x.numel() // max(dim, 1), x.numel() // 4)
    return out, total
