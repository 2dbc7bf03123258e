"""Compiled element-wise steps of a head: BatchNorm + dropout + ReLU, its gradient, Adam, masks.

Activations lie as ``[units, batch]``: a hidden unit's whole batch is one contiguous row, so that
its statistics, normalisation, dropout and ReLU run while the row is in the first-level cache, and
the matrix products around them are plain ones. Serial and without the interpreter's lock: a head
runs on one thread. Subnormal numbers (moments of units whose gradients ended) are taken for zero,
or they would slow a step many times down on some processors. Importing this module needs numba
(`heads.numba_available`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from numba import njit

from mambabench.subnormals import flush_subnormals, restore_arithmetic

__all__ = [
    "adam_step",
    "draw_dense",
    "draw_mask",
    "norm_backward",
    "norm_forward",
    "scale_shift_relu",
]

F32 = npt.NDArray[np.float32]
U32 = npt.NDArray[np.uint32]
F = TypeVar("F", bound=Callable[..., Any])

EPSILON = 1e-5  # BatchNorm's
MOMENTUM = 0.1
MATRIX_A = 0x9908B0DF  # the Mersenne twister's


def _kernel(*, fastmath: bool) -> Callable[[F], F]:
    """Compile a serial kernel; cache it on disk where some folder for that can be written."""
    options: dict[str, Any] = {
        "nogil": True,
        "boundscheck": False,
        "error_model": "numpy",
        "fastmath": fastmath,
    }

    def compile_(function: F) -> F:
        try:
            compiled = njit(cache=True, **options)(function)
        except RuntimeError:  # numba found no folder for its cache
            compiled = njit(**options)(function)
        return compiled  # type: ignore[no-any-return]

    return compile_


@_kernel(fastmath=True)
def norm_forward(
    batch: int,
    Z: F32,
    parameters: F32,
    running: F32,
    bias: F32,
    bits: U32,
    keep_scale: np.float32,
    A: F32,
    moments: F32,
) -> None:
    """Set A = relu(dropout(batch_norm(Z))) in training mode and update the running statistics.

    Z, A [units, batch or more], of which the first `batch` columns are used; parameters [2, units]
    weight and bias of the norm; running [2, units] mean and variance; bias [units] of the linear
    layer before, which cancels here and enters the running mean only; bits
    [ceil(batch / 32), units] packed mask; moments [2, units] receives mean and 1 / standard
    deviation for the backward step.
    """
    before = flush_subnormals()
    units = Z.shape[0]
    per_row = np.float32(1.0) / np.float32(batch)
    unbiased = np.float32(batch) / np.float32(batch - 1)
    momentum = np.float32(MOMENTUM)
    for j in range(units):
        z = Z[j]
        a = A[j]
        pivot = z[0]  # shifts the sums, so that the variance does not cancel
        total = np.float32(0.0)
        squares = np.float32(0.0)
        for b in range(batch):
            d = z[b] - pivot
            total += d
            squares += d * d
        offset = total * per_row
        variance = max(squares * per_row - offset * offset, np.float32(0.0))
        mean = pivot + offset
        inverse = np.float32(1.0) / np.sqrt(variance + np.float32(EPSILON))
        moments[0, j] = mean
        moments[1, j] = inverse
        running[0, j] += momentum * (mean + bias[j] - running[0, j])
        running[1, j] += momentum * (variance * unbiased - running[1, j])
        scale = inverse * parameters[0, j] * keep_scale
        shift = (parameters[1, j] - mean * inverse * parameters[0, j]) * keep_scale
        for t in range((batch + 31) >> 5):
            word = bits[t, j]
            start = t << 5
            for b in range(min(32, batch - start)):
                x = z[start + b] * scale + shift
                x = x if x > np.float32(0.0) else np.float32(0.0)
                kept = (np.uint32(word >> np.uint32(b)) & np.uint32(1)) != np.uint32(0)
                a[start + b] = x if kept else np.float32(0.0)
    restore_arithmetic(before)


@_kernel(fastmath=True)
def norm_backward(
    batch: int,
    D: F32,
    A: F32,
    Z: F32,
    moments: F32,
    parameters: F32,
    gradient: F32,
    keep_scale: np.float32,
) -> None:
    """Turn D, the loss gradient of A, into that of Z in place; gradient [2, units] of the norm.

    A unit is open where A > 0: kept and positive.
    """
    before = flush_subnormals()
    units = Z.shape[0]
    per_row = np.float32(1.0) / np.float32(batch)
    for j in range(units):
        d = D[j]
        a = A[j]
        z = Z[j]
        mean = moments[0, j]
        inverse = moments[1, j]
        total = np.float32(0.0)
        product = np.float32(0.0)
        for b in range(batch):
            t = d[b] if a[b] > np.float32(0.0) else np.float32(0.0)
            total += t
            product += t * (z[b] - mean)
        to_bias = total * keep_scale
        to_weight = product * keep_scale * inverse
        gradient[0, j] = to_weight
        gradient[1, j] = to_bias
        gain = parameters[0, j] * inverse
        open_scale = gain * keep_scale
        slope = gain * to_weight * per_row * inverse
        constant = gain * to_bias * per_row - slope * mean
        for b in range(batch):
            t = d[b] if a[b] > np.float32(0.0) else np.float32(0.0)
            d[b] = t * open_scale - constant - slope * z[b]
    restore_arithmetic(before)


@_kernel(fastmath=True)
def scale_shift_relu(Z: F32, scale: F32, shift: F32) -> None:
    """Set Z = relu(Z * scale + shift) in place; scale, shift [units]."""
    before = flush_subnormals()
    units, batch = Z.shape
    for j in range(units):
        factor = scale[j]
        term = shift[j]
        z = Z[j]
        for b in range(batch):
            x = z[b] * factor + term
            z[b] = x if x > np.float32(0.0) else np.float32(0.0)
    restore_arithmetic(before)


@_kernel(fastmath=True)
def adam_step(
    weight: F32,
    gradient: F32,
    first: F32,
    second: F32,
    rate: np.float32,
    second_scale: np.float32,
    shrink: np.float32,
) -> None:
    """Do one Adam step on flat arrays, betas .9 and .999, epsilon 1e-8.

    rate = lr / (1 - .9^t); second_scale = 1 / sqrt(1 - .999^t); shrink = 1 - lr * weight_decay.
    """
    before = flush_subnormals()
    for i in range(weight.size):
        g = gradient[i]
        m = first[i] + np.float32(0.1) * (g - first[i])
        v = second[i] * np.float32(0.999) + np.float32(0.001) * g * g
        first[i] = m
        second[i] = v
        weight[i] = weight[i] * shrink - rate * m / (np.sqrt(v) * second_scale + np.float32(1e-8))
    restore_arithmetic(before)


@_kernel(fastmath=False)
def _twisted(high: np.uint32, low: np.uint32, far: np.uint32) -> np.uint32:
    y = np.uint32((high & np.uint32(0x80000000)) | (low & np.uint32(0x7FFFFFFF)))
    odd = np.uint32(np.uint32(0) - np.uint32(low & np.uint32(1)))
    return np.uint32(
        np.uint32(far ^ np.uint32(y >> np.uint32(1))) ^ np.uint32(odd & np.uint32(MATRIX_A))
    )


@_kernel(fastmath=False)
def _refill(state: U32, out: U32) -> None:
    """Advance the Mersenne twister by its 624 words and write the tempered ones to `out`."""
    for i in range(227):
        state[i] = _twisted(state[i], state[i + 1], state[i + 397])
    for i in range(227, 623):
        state[i] = _twisted(state[i], state[i + 1], state[i - 227])
    state[623] = _twisted(state[623], state[0], state[396])
    _temper(state, out)


@_kernel(fastmath=False)
def _temper(state: U32, out: U32) -> None:
    for i in range(624):
        y = state[i]
        y = np.uint32(y ^ np.uint32(y >> np.uint32(11)))
        y = np.uint32(y ^ np.uint32(np.uint32(y << np.uint32(7)) & np.uint32(0x9D2C5680)))
        y = np.uint32(y ^ np.uint32(np.uint32(y << np.uint32(15)) & np.uint32(0xEFC60000)))
        out[i] = np.uint32(y ^ np.uint32(y >> np.uint32(18)))


@_kernel(fastmath=False)
def _pack(words: U32, limit: U32, bits: U32, bit: np.uint32) -> None:
    """Set `bit` of bits[k] where the k-th pair of words, read as 53 bits, is below limit."""
    high_limit = limit[0]
    low_limit = limit[1]
    for k in range(len(bits)):
        high = np.uint32(words[2 * k] & np.uint32(0x1FFFFF))
        low = words[2 * k + 1]
        kept = (high < high_limit) | ((high == high_limit) & (low < low_limit))
        bits[k] = np.uint32(bits[k] | np.uint32(np.uint32(kept) << bit))


@_kernel(fastmath=False)
def draw_mask(
    state: U32, left: int, position: int, batch: int, units: int, limit: U32, bits: U32
) -> tuple[int, int]:
    """Draw one dropout mask from a Mersenne twister as torch's `bernoulli_` does on a CPU.

    Two words per element in (batch, unit) order; bits[b // 32, unit] bit b % 32 is 1 where kept.
    `state` [624], `left` and `position` are the generator's own and advance with it; `limit` [2]
    holds the keep probability times 2^53 as high and low word. Returns the new (left, position).
    """
    need = 2 * units
    words = np.empty(need + 1248, np.uint32)  # those of one row of the batch, and what is left over
    have = left - 1
    _temper(state, words)
    for i in range(have):
        words[i] = words[position + i]
    for b in range(batch):
        while have < need:
            _refill(state, words[have:])
            have += 624
        row = bits[b >> 5, :units]
        if b & 31 == 0:
            row[:] = np.uint32(0)
        _pack(words, limit, row, np.uint32(b & 31))
        have -= need
        for i in range(have):
            words[i] = words[need + i]
    return have + 1, 624 - have


@_kernel(fastmath=False)
def draw_dense(
    state: U32, left: int, position: int, batch: int, units: int, limit: U32, mask: F32
) -> tuple[int, int]:
    """Draw the mask of `draw_mask` as float32 [batch, units] of 0 and 1."""
    row = np.empty((1, units), np.uint32)
    for b in range(batch):
        left, position = draw_mask(state, left, position, 1, units, limit, row)
        out = mask[b]
        for k in range(units):
            out[k] = np.float32(row[0, k] & np.uint32(1))
    return left, position
