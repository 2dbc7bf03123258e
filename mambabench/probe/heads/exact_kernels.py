"""Compiled element-wise steps of a head, each rounding as torch's own operator does on a CPU.

Activations lie as ``[batch, units]``, as in torch. Every sum runs in torch's order, a fused
multiply-add stands where torch's binary has one, and nothing else may be contracted or reordered:
the results are torch's bit for bit (`exact.rounds_as_torch` compares first). Panels of
256 units keep small batches in the second-level cache between the passes. Subnormal numbers are
treated as the calling thread does, which is torch's way too: kept, at the price that torch pays, or
zero after `torch.set_flush_denormal(True)`. Importing this module needs numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import intrinsic

from mambabench.probe.heads.kernels import EPSILON, MOMENTUM, _kernel

__all__ = [
    "adam_moments",
    "adam_weights",
    "evaluated",
    "norm_backward",
    "norm_forward",
    "scaled_rows",
]

F32 = npt.NDArray[np.float32]
U32 = npt.NDArray[np.uint32]

PANEL = 256  # units
NEW = np.float32(MOMENTUM)
OLD = np.float32(1 - MOMENTUM)
LEVELS = 4  # of torch's cascaded sum
STEP = 16  # rows of the lowest level, for batches of up to 2^19 rows


def _fma_typed(context: Any, a: Any, b: Any, c: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), generate


_fma: Any = intrinsic(_fma_typed)  # a * b + c, rounded once


@_kernel(fastmath=False)
def norm_forward(
    Z: F32, norm: F32, running: F32, bits: U32, keep_scale: np.float32, A: F32, moments: F32
) -> None:
    """Set A = relu(batch_norm(Z) * mask) in training mode and update the running statistics.

    Z, A [batch, units]; norm [2, units] weight and bias; running [2, units] mean and variance; bits
    [ceil(batch / 32), units] packed mask, whose kept elements count `keep_scale`; moments
    [2, units] receives mean and 1 / standard deviation for the backward step.
    """
    batch, units = Z.shape
    zero = np.float32(0.0)
    sums = np.empty(PANEL, np.float32)
    alpha = np.empty(PANEL, np.float32)
    beta = np.empty(PANEL, np.float32)
    for start in range(0, units, PANEL):
        width = min(PANEL, units - start)
        mean = moments[0, start : start + width]
        for j in range(width):
            sums[j] = zero
        for b in range(batch):
            z = Z[b, start : start + width]
            for j in range(width):
                sums[j] += z[j]
        for j in range(width):
            mean[j] = np.float32(np.float64(sums[j]) / batch)
            sums[j] = zero
        for b in range(batch):
            z = Z[b, start : start + width]
            for j in range(width):
                d = z[j] - mean[j]
                sums[j] = _fma(d, d, sums[j])
        for j in range(width):
            c = start + j
            variance = np.float64(sums[j] / np.float32(batch))
            inverse = np.float32(1.0 / np.sqrt(variance + EPSILON))
            moments[1, c] = inverse
            unbiased = np.float64(sums[j] / np.float32(batch - 1))
            running[0, c] = NEW * mean[j] + OLD * running[0, c]
            running[1, c] = np.float32(np.float64(NEW) * unbiased + np.float64(OLD * running[1, c]))
            alpha[j] = inverse * norm[0, c]
            beta[j] = _fma(-mean[j], alpha[j], norm[1, c])
        for b in range(batch):
            z = Z[b, start : start + width]
            a = A[b, start : start + width]
            words = bits[b >> 5, start : start + width]
            shift = np.uint32(b & 31)
            for j in range(width):
                kept = np.uint32(words[j] >> shift) & np.uint32(1)
                x = _fma(z[j], alpha[j], beta[j])
                x = x * (keep_scale if kept != np.uint32(0) else zero)
                a[j] = zero if x < zero else x


@_kernel(fastmath=False)
def norm_backward(
    D: F32,
    Z: F32,
    bits: U32,
    keep_scale: np.float32,
    norm: F32,
    moments: F32,
    gradient: F32,
    to_bias: F32,
) -> None:
    """Turn D, the loss gradient of A, into that of Z in place.

    gradient [2, units] receives the norm's, to_bias [units] that of the linear layer before.
    Whether a unit was open follows from Z again.
    """
    batch, units = Z.shape
    zero = np.float32(0.0)
    rows = np.float32(batch)
    total = np.empty(PANEL, np.float32)
    dot = np.empty(PANEL, np.float32)
    slope = np.empty(PANEL, np.float32)
    centre = np.empty(PANEL, np.float32)
    alpha = np.empty(PANEL, np.float32)
    beta = np.empty(PANEL, np.float32)
    levels = np.empty((LEVELS, PANEL), np.float32)
    for start in range(0, units, PANEL):
        width = min(PANEL, units - start)
        mean = moments[0, start : start + width]
        inverse = moments[1, start : start + width]
        weight = norm[0, start : start + width]
        for j in range(width):
            alpha[j] = inverse[j] * weight[j]
            beta[j] = _fma(-mean[j], alpha[j], norm[1, start + j])
            total[j] = zero
            dot[j] = zero
        for b in range(batch):
            d = D[b, start : start + width]
            z = Z[b, start : start + width]
            words = bits[b >> 5, start : start + width]
            shift = np.uint32(b & 31)
            for j in range(width):
                kept = np.uint32(words[j] >> shift) & np.uint32(1)
                t = zero if _fma(z[j], alpha[j], beta[j]) <= zero else d[j]
                t = t * keep_scale if kept != np.uint32(0) else zero
                d[j] = t
                total[j] += t
                dot[j] = _fma(z[j] - mean[j], t, dot[j])
        for j in range(width):
            gradient[0, start + j] = dot[j] * inverse[j]
            gradient[1, start + j] = total[j]
            slope[j] = dot[j] * inverse[j] * inverse[j] / rows
            centre[j] = total[j] / rows
            for level in range(LEVELS):
                levels[level, j] = zero
        for b in range(batch):
            d = D[b, start : start + width]
            z = Z[b, start : start + width]
            lowest = levels[0]
            for j in range(width):
                t = _fma(-(z[j] - mean[j]), slope[j], d[j] - centre[j])
                t = t * inverse[j] * weight[j]
                d[j] = t
                lowest[j] += t
            if (b + 1) % STEP == 0:
                _carry(levels, b + 1, width)
        out = to_bias[start : start + width]
        for j in range(width):
            out[j] = ((levels[0, j] + levels[1, j]) + levels[2, j]) + levels[3, j]


@_kernel(fastmath=False)
def _carry(levels: F32, done: int, width: int) -> None:
    """Add full levels of the cascaded sum to the next higher one."""
    full = STEP
    for level in range(1, LEVELS):
        for j in range(width):
            levels[level, j] += levels[level - 1, j]
            levels[level - 1, j] = np.float32(0.0)
        full *= STEP
        if done % full != 0:
            break


@_kernel(fastmath=False)
def scaled_rows(columns: F32, factor: np.float32, out: F32) -> None:
    """Set out [n, m] to columns [m, n], transposed, times `factor`."""
    m, n = columns.shape
    for b in range(n):
        for j in range(m):
            out[b, j] = columns[j, b] * factor


@_kernel(fastmath=False)
def evaluated(Z: F32, norm: F32, running: F32) -> None:
    """Set Z = relu(batch_norm(Z)) in evaluation mode, in place; Z [n, units]."""
    n, units = Z.shape
    zero = np.float32(0.0)
    alpha = np.empty(units, np.float32)
    beta = np.empty(units, np.float32)
    for j in range(units):
        deviation = np.sqrt(running[1, j] + np.float32(EPSILON))
        alpha[j] = np.float32(1.0) / deviation * norm[0, j]
        beta[j] = _fma(-running[0, j], alpha[j], norm[1, j])
    for b in range(n):
        z = Z[b]
        for j in range(units):
            x = _fma(z[j], alpha[j], beta[j])
            z[j] = zero if x < zero else x


@_kernel(fastmath=False)
def adam_moments(gradient: F32, first: F32, second: F32) -> None:
    """Update both moments of flat arrays, betas .9 and .999."""
    for i in range(gradient.size):
        g = gradient[i]
        first[i] = _fma(np.float32(1 - 0.9), g - first[i], first[i])
        v = second[i] * np.float32(0.999)
        second[i] = _fma(np.float32(1 - 0.999) * g, g, v)


@_kernel(fastmath=False)
def adam_weights(
    weight: F32,
    first: F32,
    root: F32,
    step_size: np.float32,
    correction: np.float32,
    shrink: np.float32,
) -> None:
    """Move flat weights by Adam's step, epsilon 1e-8.

    root: square root of the second moment; step_size = -lr / (1 - .9^t);
    correction = sqrt(1 - .999^t); shrink = 1 - lr * weight_decay.
    """
    for i in range(weight.size):
        denominator = root[i] / correction + np.float32(1e-8)
        weight[i] = weight[i] * shrink + step_size * first[i] / denominator
