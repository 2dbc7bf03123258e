"""CPU kernels of the selective scan and the depthwise convolution, in explicit SIMD vectors.

Everything that numba compiles is in this one file, the vector type included: numba's cache on disk
notices edits only of the file that defines a function, so a vector type elsewhere could leave
stale machine code behind. The exception are the two calls of `mambabench.subnormals`, which every
kernel called from outside makes: subnormal numbers cost nothing, and the thread's arithmetic is
left as it was.

A vector holds 64 bytes (16 float32 or 8 float64) and lowers to one AVX-512, two AVX2 or four NEON
registers. SIMD runs over the channels, never over the states, so no state count wastes lanes. The
kernels take raw addresses and strides in elements: one specialisation per precision serves
every layout with unit stride over channels, and the reverse direction is a negative stride.
`kind` is a scalar whose type says the precision; its value does not matter.
"""

# mypy: ignore-errors
# (numba gives the types here: an intrinsic is called without the typing context it declares)

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils, config
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic, models, register_model

from mambabench.subnormals import flush_subnormals, restore_arithmetic

__all__ = [
    "CHUNK",
    "HAS_TABLE",
    "add_norm",
    "conv_backward",
    "conv_forward",
    "scan_backward",
    "scan_forward",
]

_PART = 64  # time steps that the convolution's gradients are summed over at a time
CHUNK = 16  # time steps whose states stay in registers in the forward kernel
_INT32 = ir.IntType(32)
_LOG2E = 1.4426950408889634

# 2**f on [-1/2, 1/2], highest power first. The constant is exactly 1: else a bias of 1e-7 a step
# would build up over thousands of steps.
_EXP2_F32 = (1.32833926e-3, 9.67429824e-3, 5.55067802e-2, 2.4022181e-1, 6.93147015e-1, 1.0)
_EXP2_F64 = (
    2.5729324177362305e-11, 4.4558179083360645e-10, 7.0548973041554995e-09, 1.0178057087733941e-07,
    1.3215486808705563e-06, 1.5252733841556773e-05, 0.00015403530393370734, 0.001333355814640647,
    0.00961812910762848, 0.055504108664821625, 0.24022650695910072, 0.6931471805599453, 1.0,
)  # fmt: skip
# For AVX-512, which looks up 16 entries in one instruction: 2**f on [-1/32, 1/32] and, in bits,
# 2**(i / 16) less what i itself adds when x * 16 is shifted into the exponent. One instruction
# less of the nine that keep the multipliers busy, which bound the scan, and a smaller error.
_EXP2_TABLE_F32 = (0.0555034615, 0.240233511, 0.693147182, 1.0)
_ROOTS_F32 = [int(np.float32(2 ** (i / 16)).view(np.int32)) - (i << 19) for i in range(16)]
_HOST = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
HAS_TABLE = "+avx512f" in _HOST.split(",")
# log(1 + t) / t on [0, 1]
_LOG1P_F32 = (
    0.00536377009, -0.0300616915, 0.0791981789, -0.137532933, 0.191534215, -0.248570972,
    0.333213106, -0.49999647, 1.0,
)  # fmt: skip
_LOG1P_F64 = (
    1.507843780222621e-05, -0.0001818830325500265, 0.001043354876634814, -0.0038046517253179694,
    0.009968982838076882, -0.020179668043339125, 0.03327845491726436, -0.046798182549893104,
    0.05858685252957079, -0.06799320385322372, 0.07573035633807378, -0.08299931758127772,
    0.09083470413958532, -0.09998705428075007, 0.11110938960467566, -0.12499983019721868,
    0.14285713092791552, -0.1666666661032813, 0.19999999998361212, -0.2499999999997462,
    0.33333333333333176, -0.5, 1.0,
)  # fmt: skip


class _Vector(types.Type):
    """numba's type of one SIMD vector; methods emit LLVM instructions on such vectors."""

    def __init__(self, double: bool) -> None:
        super().__init__(name="float64x8" if double else "float32x16")
        self.scalar = types.float64 if double else types.float32
        self.element: Any = ir.DoubleType() if double else ir.FloatType()
        self.integer = ir.IntType(64) if double else _INT32
        self.lanes, self.n_bytes = (8, 8) if double else (16, 4)
        self.mantissa_bits, self.lowest = (52, -1020.0) if double else (23, -126.0)
        self.highest = 1024.0 if double else 128.0  # the bits of 2**highest are those of infinity
        self.magic = 6755399441055744.0 if double else 12582912.0  # adding it rounds to integers
        self.suffix = f"v{self.lanes}f{8 * self.n_bytes}"
        self.exp2_polynomial = _EXP2_F64 if double else _EXP2_F32
        self.log1p_polynomial = _LOG1P_F64 if double else _LOG1P_F32
        self.llvm = ir.VectorType(self.element, self.lanes)
        self.llvm_integer = ir.VectorType(self.integer, self.lanes)
        self.round = float if double else (lambda x: float(np.float32(x)))

    def constant(self, x: float) -> Any:
        return ir.Constant(self.llvm, [self.round(x)] * self.lanes)

    def integers(self, x: int) -> Any:
        return ir.Constant(self.llvm_integer, [x] * self.lanes)

    def pick(self, b: Any, x: Any, y: Any, lanes: list[int]) -> Any:
        return b.shuffle_vector(x, y, ir.Constant(ir.VectorType(_INT32, self.lanes), lanes))

    def broadcast(self, b: Any, scalar: Any) -> Any:
        undefined = ir.Constant(self.llvm, ir.Undefined)
        first = b.insert_element(undefined, scalar, ir.Constant(_INT32, 0))
        return self.pick(b, first, undefined, [0] * self.lanes)

    def multiply_add(self, b: Any, x: Any, y: Any, z: Any) -> Any:
        # "fmuladd", not "fma": without an FMA unit the latter becomes a library call per lane
        signature = ir.FunctionType(self.llvm, [self.llvm] * 3)
        name = f"llvm.fmuladd.{self.suffix}"
        return b.call(cgutils.get_or_insert_function(b.module, signature, name), [x, y, z])

    def polynomial(self, b: Any, coefficients: tuple[float, ...], x: Any) -> Any:
        p = self.constant(coefficients[0])
        for c in coefficients[1:]:
            p = self.multiply_add(b, p, x, self.constant(c))
        return p

    def maximum(self, b: Any, x: Any, bound: Any) -> Any:
        return b.select(b.fcmp_unordered(">", x, bound), x, bound)  # unordered: NaN stays NaN

    def minimum(self, b: Any, x: Any, bound: Any) -> Any:
        return b.select(b.fcmp_unordered("<", x, bound), x, bound)

    def exp2(self, b: Any, x: Any) -> Any:
        x = self.maximum(b, x, self.constant(self.lowest))
        return self.exp2_within(b, self.minimum(b, x, self.constant(self.highest)))

    def exp2_within(self, b: Any, x: Any) -> Any:
        """2**x for x from lowest to highest, or NaN."""
        if HAS_TABLE and self.lanes == 16:
            return self.exp2_by_table(b, x)
        shifted = b.fadd(x, self.constant(self.magic))
        fraction = b.fsub(x, b.fsub(shifted, self.constant(self.magic)))
        p = self.polynomial(b, self.exp2_polynomial, fraction)
        exponent = b.shl(b.bitcast(shifted, self.llvm_integer), self.integers(self.mantissa_bits))
        return b.bitcast(b.add(b.bitcast(p, self.llvm_integer), exponent), self.llvm)

    def exp2_by_table(self, b: Any, x: Any) -> Any:
        magic = self.constant(self.magic / 16)  # adding it rounds to sixteenths
        shifted = b.fadd(x, magic)
        p = self.polynomial(b, _EXP2_TABLE_F32, b.fsub(x, b.fsub(shifted, magic)))
        bits = b.bitcast(shifted, self.llvm_integer)
        signature = ir.FunctionType(self.llvm_integer, [self.llvm_integer] * 2)
        name = "llvm.x86.avx512.permvar.si.512"  # by the lowest four bits
        look_up = cgutils.get_or_insert_function(b.module, signature, name)
        root = b.call(look_up, [ir.Constant(self.llvm_integer, _ROOTS_F32), bits])
        power = b.add(root, b.shl(bits, self.integers(self.mantissa_bits - 4)))
        return b.fmul(p, b.bitcast(power, self.llvm))

    def sigmoid(self, b: Any, x: Any) -> Any:
        # bounded so that x * sigmoid(x) is -0 and not NaN for x = -infinity
        small = self.minimum(b, b.fmul(x, self.constant(-_LOG2E)), self.constant(-self.lowest))
        small = self.exp2_within(b, self.maximum(b, small, self.constant(self.lowest)))
        return b.fdiv(self.constant(1.0), b.fadd(self.constant(1.0), small))

    def softplus(self, b: Any, x: Any) -> Any:
        """max(x, 0) + log(1 + exp(-|x|)): no division, no branch."""
        sign = self.integers(-(1 << (8 * self.n_bytes - 1)))
        negative = b.bitcast(b.or_(b.bitcast(x, self.llvm_integer), sign), self.llvm)
        negative = b.fmul(negative, self.constant(_LOG2E))
        t = self.exp2_within(b, self.maximum(b, negative, self.constant(self.lowest)))
        p = self.polynomial(b, self.log1p_polynomial, t)
        return self.multiply_add(b, p, t, self.maximum(b, x, self.constant(0.0)))


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: _Vector) -> None:
        super().__init__(manager, vector, vector.llvm)


_VECTORS = {types.float32: _Vector(double=False), types.float64: _Vector(double=True)}


def _elementwise(emit: Any) -> Any:
    """Make an operation on one vector from a method of `_Vector`."""

    @intrinsic
    def operation(typing: Any, x: Any) -> Any:
        return x(x), lambda context, b, signature, a: emit(signature.args[0], b, a[0])

    return operation


_exp2, _exp2_within, _sigmoid, _softplus = map(
    _elementwise, (_Vector.exp2, _Vector.exp2_within, _Vector.sigmoid, _Vector.softplus)
)


@intrinsic
def _fma(typing: Any, x: Any, y: Any, z: Any) -> Any:
    return x(x, x, x), lambda context, b, signature, a: x.multiply_add(b, *a)


@intrinsic
def _add(typing: Any, x: Any, y: Any) -> Any:
    return x(x, x), lambda context, b, signature, a: b.fadd(*a)


@intrinsic
def _sub(typing: Any, x: Any, y: Any) -> Any:
    return x(x, x), lambda context, b, signature, a: b.fsub(*a)


@intrinsic
def _mul(typing: Any, x: Any, y: Any) -> Any:
    return x(x, x), lambda context, b, signature, a: b.fmul(*a)


@intrinsic
def _larger(typing: Any, x: Any, y: Any) -> Any:
    """Per lane the larger of x and |y|, x where y is NaN."""

    def emit(context: Any, b: Any, signature: Any, a: Any) -> Any:
        bits = b.bitcast(a[1], y.llvm_integer)
        size = b.and_(bits, y.integers((1 << (8 * y.n_bytes - 1)) - 1))
        size = b.bitcast(size, y.llvm)
        return b.select(b.fcmp_ordered("<", a[0], size), size, a[0])

    return x(x, x), emit


@intrinsic
def _may_leave(typing: Any, x: Any) -> Any:
    """Whether, in some lane, 2**y for a |y| <= x may need its bounds; True for a NaN."""

    def emit(context: Any, b: Any, signature: Any, a: Any) -> Any:
        beyond = b.fcmp_unordered(">", a[0], x.constant(-x.lowest))
        lanes = ir.IntType(x.lanes)
        return b.icmp_unsigned("!=", b.bitcast(beyond, lanes), ir.Constant(lanes, 0))

    return types.boolean(x), emit


@intrinsic
def _lanes(typing: Any, kind: Any) -> Any:
    """Lanes of a vector of `kind`, a constant of the compiled code."""
    vector = _VECTORS[kind]
    return types.int64(kind), lambda context, b, signature, a: ir.Constant(
        ir.IntType(64), vector.lanes
    )


@intrinsic
def _fill(typing: Any, kind: Any, x: Any) -> Any:
    """Vector of `kind` with the int or float `x` in every lane."""
    vector = _VECTORS[kind]

    def emit(context: Any, b: Any, signature: Any, a: Any) -> Any:
        return vector.broadcast(b, context.cast(b, a[1], signature.args[1], vector.scalar))

    return vector(kind, x), emit


def _pointer(b: Any, address: Any, index: Any, element: Any, n_bytes: int) -> Any:
    offset = b.mul(index, ir.Constant(index.type, n_bytes))
    return b.inttoptr(b.add(address, offset), element.as_pointer())


@intrinsic
def _load(typing: Any, kind: Any, address: Any, index: Any) -> Any:
    """Vector of `kind` from `address` (bytes) + `index` (elements); need not be aligned."""
    vector = _VECTORS[kind]

    def emit(context: Any, b: Any, signature: Any, a: Any) -> Any:
        value = b.load(_pointer(b, a[1], a[2], vector.llvm, vector.n_bytes))
        value.align = vector.n_bytes
        return value

    return vector(kind, types.int64, types.int64), emit


@intrinsic
def _store(typing: Any, address: Any, index: Any, value: Any) -> Any:
    def emit(context: Any, b: Any, signature: Any, a: Any) -> Any:
        b.store(a[2], _pointer(b, a[0], a[1], value.llvm, value.n_bytes)).align = value.n_bytes
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, value), emit


@intrinsic
def _spread(typing: Any, kind: Any, address: Any, index: Any) -> Any:
    """One scalar of `kind` at `address` + `index`, in every lane."""
    vector = _VECTORS[kind]

    def emit(context: Any, b: Any, signature: Any, a: Any) -> Any:
        return vector.broadcast(b, b.load(_pointer(b, a[1], a[2], vector.element, vector.n_bytes)))

    return vector(kind, types.int64, types.int64), emit


@intrinsic
def _prefetch(typing: Any, kind: Any, address: Any, index: Any) -> Any:
    """Fetch into the second-level cache: rows a multiple of 4 KB apart share a few sets of the
    first, where the lines of a chunk would drive each other out before their use."""
    vector = _VECTORS[kind]

    def emit(context: Any, b: Any, signature: Any, a: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        function = cgutils.get_or_insert_function(
            b.module, ir.FunctionType(ir.VoidType(), [byte, *[_INT32] * 3]), "llvm.prefetch.p0i8"
        )
        pointer = _pointer(b, a[1], a[2], ir.IntType(8), vector.n_bytes)
        b.call(function, [pointer, *(ir.Constant(_INT32, x) for x in (0, 2, 1))])
        return context.get_dummy_value()

    return types.void(kind, types.int64, types.int64), emit


@intrinsic
def _sum_lanes(typing: Any, kind: Any, address: Any, index: Any) -> Any:
    """Sum `lanes` vectors, from address + index on, over their lanes: lane t is that of vector t.

    A tree of shuffles and additions: about a quarter of the work of one horizontal sum per vector.
    """
    vector = _VECTORS[kind]

    def emit(context: Any, b: Any, signature: Any, a: Any) -> Any:
        rows = []
        for t in range(vector.lanes):
            at = b.add(a[2], ir.Constant(ir.IntType(64), t * vector.lanes))
            rows.append(b.load(_pointer(b, a[1], at, vector.llvm, vector.n_bytes)))
        half = vector.lanes // 2
        while half:
            # lanes without the bit `half` come from the first row, the others from the second
            pick = [(i & ~half) + (vector.lanes if i & half else 0) for i in range(vector.lanes)]
            other = [i + half for i in pick]
            rows = [
                b.fadd(vector.pick(b, x, y, pick), vector.pick(b, x, y, other))
                for x, y in zip(rows[:half], rows[half:], strict=True)
            ]
            half //= 2
        return rows[0]

    return vector(kind, types.int64, types.int64), emit


@intrinsic
def _total(typing: Any, x: Any) -> Any:
    """Sum of the lanes of one vector, in a fixed order."""

    def emit(context: Any, b: Any, signature: Any, a: Any) -> Any:
        value = a[0]
        half = x.lanes // 2
        while half:
            lanes = [(i + half) % x.lanes for i in range(x.lanes)]
            value = b.fadd(value, x.pick(b, value, value, lanes))
            half //= 2
        return b.extract_element(value, ir.Constant(_INT32, 0))

    return x.scalar(x), emit


def _compile(function: Any) -> Any:
    """Compile for the types of the first call, keeping machine code on disk where that can be."""
    try:
        return njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # no folder that can be written to, neither beside this file nor at home
        return njit(nogil=True, error_model="numpy")(function)


@_compile
def _low_rank_steps(kind, rows, stride, weight, rank, dim, d, offset, m, scratch, to):
    """Store rows [m, rank] @ weight [rank, dim] + offset for the channels from d, eight steps at
    once so that a vector of weights is loaded for eight products."""
    w = _lanes(kind)
    t = 0
    while t + 8 <= m:
        i = t * stride
        s0 = offset
        s1 = offset
        s2 = offset
        s3 = offset
        s4 = offset
        s5 = offset
        s6 = offset
        s7 = offset
        for r in range(rank):
            x = _load(kind, weight, r * dim + d)
            s0 = _fma(_spread(kind, rows, i + r), x, s0)
            s1 = _fma(_spread(kind, rows, i + stride + r), x, s1)
            s2 = _fma(_spread(kind, rows, i + 2 * stride + r), x, s2)
            s3 = _fma(_spread(kind, rows, i + 3 * stride + r), x, s3)
            s4 = _fma(_spread(kind, rows, i + 4 * stride + r), x, s4)
            s5 = _fma(_spread(kind, rows, i + 5 * stride + r), x, s5)
            s6 = _fma(_spread(kind, rows, i + 6 * stride + r), x, s6)
            s7 = _fma(_spread(kind, rows, i + 7 * stride + r), x, s7)
        at = to + t * w
        _store(scratch, at, s0)
        _store(scratch, at + w, s1)
        _store(scratch, at + 2 * w, s2)
        _store(scratch, at + 3 * w, s3)
        _store(scratch, at + 4 * w, s4)
        _store(scratch, at + 5 * w, s5)
        _store(scratch, at + 6 * w, s6)
        _store(scratch, at + 7 * w, s7)
        t += 8
    while t < m:
        s0 = offset
        for r in range(rank):
            s0 = _fma(_spread(kind, rows, t * stride + r), _load(kind, weight, r * dim + d), s0)
        _store(scratch, to + t * w, s0)
        t += 1


@_compile
def _decay(bounded, x):
    return _exp2_within(x) if bounded is None else _exp2(x)


@_compile
def _four_states(
    kind, bounded, scratch, h, rates, deltas, inputs, ys, Bm, p, bs, Cm, q, cs, m,
):  # fmt: skip
    """Advance four states by m steps in registers and add their outputs to `ys`.

    `bounded` None: no decay of these steps leaves the range of the exponential.
    """
    w = _lanes(kind)
    h0 = _load(kind, scratch, h)
    h1 = _load(kind, scratch, h + w)
    h2 = _load(kind, scratch, h + 2 * w)
    h3 = _load(kind, scratch, h + 3 * w)
    a0 = _load(kind, scratch, rates)
    a1 = _load(kind, scratch, rates + w)
    a2 = _load(kind, scratch, rates + 2 * w)
    a3 = _load(kind, scratch, rates + 3 * w)
    at = 0
    for _ in range(m):
        step = _load(kind, scratch, deltas + at)
        x = _load(kind, scratch, inputs + at)
        y = _load(kind, scratch, ys + at)
        h0 = _fma(_decay(bounded, _mul(step, a0)), h0, _mul(x, _spread(kind, Bm, p)))
        y = _fma(h0, _spread(kind, Cm, q), y)
        h1 = _fma(_decay(bounded, _mul(step, a1)), h1, _mul(x, _spread(kind, Bm, p + 1)))
        y = _fma(h1, _spread(kind, Cm, q + 1), y)
        h2 = _fma(_decay(bounded, _mul(step, a2)), h2, _mul(x, _spread(kind, Bm, p + 2)))
        y = _fma(h2, _spread(kind, Cm, q + 2), y)
        h3 = _fma(_decay(bounded, _mul(step, a3)), h3, _mul(x, _spread(kind, Bm, p + 3)))
        y = _fma(h3, _spread(kind, Cm, q + 3), y)
        _store(scratch, ys + at, y)
        p += bs
        q += cs
        at += w
    _store(scratch, h, h0)
    _store(scratch, h + w, h1)
    _store(scratch, h + 2 * w, h2)
    _store(scratch, h + 3 * w, h3)


@_compile
def _scan_block(
    kind, u, us, delta, ts, A, Bm, bs, Cm, cs, skip, z, zs, bias, out, os, last, saved,
    length, dim, n_states, d0, nv, softplus, accumulate, scale, weight, rank, scratch,
):  # fmt: skip
    """Scan nv * lanes channels from d0 of one batch element; all addresses are at its first row.

    Chunks of CHUNK steps: a pass for softplus, delta * u and D * u; then per group of four states
    a loop over time with states and decay rates in registers; then gate, sum and store.
    """
    w = _lanes(kind)
    h = 0
    rates = h + nv * n_states * w
    deltas = rates + nv * n_states * w
    inputs = deltas + nv * CHUNK * w
    ys = inputs + nv * CHUNK * w
    steepest = ys + nv * CHUNK * w
    maxima = steepest + nv * w
    log2e = _fill(kind, _LOG2E)
    zero = _fill(kind, 0.0)
    for v in range(nv):
        largest = zero
        for n in range(n_states):
            at = (v * n_states + n) * w
            rate = _mul(_load(kind, A, n * dim + d0 + v * w), log2e)
            _store(scratch, h + at, zero)
            _store(scratch, rates + at, rate)
            largest = _larger(largest, rate)
        _store(scratch, steepest + v * w, largest)
    scales = _fill(kind, scale)
    for k in range(0, length, CHUNK):
        m = min(CHUNK, length - k)
        for v in range(nv):
            d = d0 + v * w
            offset = _load(kind, bias, d) if bias != 0 else zero
            direct = _load(kind, skip, d) if skip != 0 else zero
            if rank != 0:
                _low_rank_steps(
                    kind, delta + k * ts * (64 // w), ts, weight, rank, dim, d, offset, m,
                    scratch, deltas + v * CHUNK * w,
                )  # fmt: skip
            largest = zero
            for t in range(m):
                if rank != 0:
                    step = _load(kind, scratch, deltas + (v * CHUNK + t) * w)
                else:
                    step = _add(_load(kind, delta, (k + t) * ts + d), offset)
                if softplus != 0:
                    step = _softplus(step)
                x = _load(kind, u, (k + t) * us + d)
                # one by one between the arithmetic, or they would queue; beyond the end is harmless
                _prefetch(kind, u, (k + t + CHUNK) * us + d)
                if rank == 0:
                    _prefetch(kind, delta, (k + t + CHUNK) * ts + d)
                if z != 0:
                    _prefetch(kind, z, (k + t) * zs + d)
                _prefetch(kind, out, (k + t) * os + d)
                at = (v * CHUNK + t) * w
                largest = _larger(largest, step)
                _store(scratch, deltas + at, step)
                _store(scratch, inputs + at, _mul(step, x))
                _store(scratch, ys + at, _mul(direct, x))
            _store(scratch, maxima + v * w, largest)
        for v in range(nv):
            if saved != 0:
                for n in range(n_states):
                    at = ((k // CHUNK) * n_states + n) * dim + d0 + v * w
                    _store(saved, at, _load(kind, scratch, h + (v * n_states + n) * w))
            # nearly never: bounding each exponent would cost two instructions a state
            bounded = _may_leave(
                _mul(_load(kind, scratch, maxima + v * w), _load(kind, scratch, steepest + v * w))
            )
            n = 0
            while n + 4 <= n_states:
                j = (v * n_states + n) * w
                at = v * CHUNK * w
                if bounded:
                    _four_states(
                        kind, 0, scratch, h + j, rates + j, deltas + at, inputs + at, ys + at,
                        Bm, k * bs + n, bs, Cm, k * cs + n, cs, m,
                    )  # fmt: skip
                else:
                    _four_states(
                        kind, None, scratch, h + j, rates + j, deltas + at, inputs + at, ys + at,
                        Bm, k * bs + n, bs, Cm, k * cs + n, cs, m,
                    )  # fmt: skip
                n += 4
            while n < n_states:
                j = (v * n_states + n) * w
                h0 = _load(kind, scratch, h + j)
                a0 = _load(kind, scratch, rates + j)
                p = k * bs + n
                q = k * cs + n
                at = v * CHUNK * w
                for _ in range(m):
                    decay = _exp2(_mul(_load(kind, scratch, deltas + at), a0))
                    drive = _mul(_load(kind, scratch, inputs + at), _spread(kind, Bm, p))
                    h0 = _fma(decay, h0, drive)
                    y = _fma(h0, _spread(kind, Cm, q), _load(kind, scratch, ys + at))
                    _store(scratch, ys + at, y)
                    p += bs
                    q += cs
                    at += w
                _store(scratch, h + j, h0)
                n += 1
        for t in range(m):
            for v in range(nv):
                i = (k + t) * os + d0 + v * w
                y = _load(kind, scratch, ys + (v * CHUNK + t) * w)
                if accumulate != 0:
                    y = _add(y, _load(kind, out, i))
                if z != 0:
                    gate = _load(kind, z, (k + t) * zs + d0 + v * w)
                    y = _mul(y, _mul(scales, _mul(gate, _sigmoid(gate))))
                _store(out, i, y)
    if last != 0:
        for v in range(nv):
            for n in range(n_states):
                value = _load(kind, scratch, h + (v * n_states + n) * w)
                _store(last, n * dim + d0 + v * w, value)


@_compile
def scan_forward(
    kind, u, ub, us, delta, tb, ts, A, Bm, bb, bs, Cm, cb, cs, skip, z, zb, zs, bias,
    out, ob, os, last, saved, length, dim, n_states, nv, softplus, reverse, accumulate, scale,
    weight, rank, scratch, first, end,
):  # fmt: skip
    """Scan the channel blocks first <= i < end of all batch * dim / (nv * lanes) blocks.

    Addresses in bytes (0: argument absent), strides in elements: `ub`, `us` are those of `u` over
    batch and time, and so on. `A` is [n_states, dim]; `skip` (D) and `bias` are [dim]; `last` is
    [batch, n_states, dim]; `saved` [batch, ceil(length / CHUNK), n_states, dim] takes the state
    before every chunk; `scratch` is aligned to 64 bytes and holds nv * (2 * n_states + 50) * lanes
    elements. `accumulate`: add to `out`; then times scale * silu(z) where there is a z.
    `rank` > 0: `delta` is [batch, length, rank] and the steps are its product with `weight`
    [rank, dim], made here chunk by chunk: the product of full size never touches memory.
    """
    w = _lanes(kind)
    size = 64 // w
    blocks = dim // (w * nv)
    n_chunks = (length + CHUNK - 1) // CHUNK
    start = length - 1 if reverse != 0 else 0
    sign = -1 if reverse != 0 else 1
    before = flush_subnormals()
    for i in range(first, end):
        b = i // blocks
        _scan_block(
            kind,
            u + (b * ub + start * us) * size, sign * us,
            delta + (b * tb + start * ts) * size, sign * ts,
            A,
            Bm + (b * bb + start * bs) * size, sign * bs,
            Cm + (b * cb + start * cs) * size, sign * cs,
            skip,
            z + (b * zb + start * zs) * size if z != 0 else 0, sign * zs,
            bias,
            out + (b * ob + start * os) * size, sign * os,
            last + b * n_states * dim * size if last != 0 else 0,
            saved + b * n_chunks * n_states * dim * size if saved != 0 else 0,
            length, dim, n_states, (i % blocks) * w * nv, nv, softplus, accumulate, scale,
            weight, rank, scratch,
        )  # fmt: skip
    restore_arithmetic(before)


@_compile
def _backward_block(
    kind, u, us, delta, ts, A, Bm, bs, Cm, cs, skip, z, zs, bias, saved, dout, gs, dlast,
    du, ddelta, dz, dA, dB, dC, dskip, dbias, os, length, dim, n_states, padded, d0, nv, softplus,
    scratch,
):  # fmt: skip
    """Gradients of nv * lanes channels from d0 of one batch element.

    Chunks in reverse. Per state: the states and decays of the chunk again from the saved state,
    then the adjoint g_t = C_t dy_t + decay_(t+1) g_(t+1) backwards, while both are in the cache.
    """
    w = _lanes(kind)
    adjoint = 0
    rates = adjoint + nv * n_states * w
    sums = rates + nv * n_states * w  # of dA
    deltas = sums + nv * n_states * w
    raw = deltas + nv * CHUNK * w  # u
    inputs = raw + nv * CHUNK * w
    ys = inputs + nv * CHUNK * w
    dys = ys + nv * CHUNK * w
    via_input = dys + nv * CHUNK * w  # sum over states of g * B
    via_decay = via_input + nv * CHUNK * w  # sum over states of g * decay * h_before * A
    states = via_decay + nv * CHUNK * w
    decays = states + (CHUNK + 1) * w
    to_B = decays + CHUNK * w
    to_C = to_B + CHUNK * w
    zero = _fill(kind, 0.0)
    one = _fill(kind, 1.0)
    log2e = _fill(kind, _LOG2E)
    for v in range(nv):
        for n in range(n_states):
            at = (v * n_states + n) * w
            from_last = _load(kind, dlast, n * dim + d0 + v * w) if dlast != 0 else zero
            _store(scratch, adjoint + at, from_last)
            _store(scratch, rates + at, _load(kind, A, n * dim + d0 + v * w))
            _store(scratch, sums + at, zero)
        if dskip != 0:
            _store(dskip, d0 + v * w, zero)
        if dbias != 0:
            _store(dbias, d0 + v * w, zero)
    for c in range((length - 1) // CHUNK, -1, -1):
        k = c * CHUNK
        m = min(CHUNK, length - k)
        for v in range(nv):
            d = d0 + v * w
            offset = _load(kind, bias, d) if bias != 0 else zero
            direct = _load(kind, skip, d) if skip != 0 else zero
            to_skip = zero
            for t in range(m):
                at = (v * CHUNK + t) * w
                step = _add(_load(kind, delta, (k + t) * ts + d), offset)
                if softplus != 0:
                    step = _softplus(step)
                x = _load(kind, u, (k + t) * us + d)
                dy = _load(kind, dout, (k + t) * gs + d)
                if z != 0:
                    gate = _load(kind, z, (k + t) * zs + d)
                    dy = _mul(dy, _mul(gate, _sigmoid(gate)))
                # as in the forward: the inputs of the chunk that comes next, the outputs of this
                before = k - CHUNK + t
                _prefetch(kind, u, before * us + d)
                _prefetch(kind, delta, before * ts + d)
                _prefetch(kind, dout, before * gs + d)
                if z != 0:
                    _prefetch(kind, z, before * zs + d)
                    _prefetch(kind, dz, (k + t) * os + d)
                _prefetch(kind, du, (k + t) * os + d)
                _prefetch(kind, ddelta, (k + t) * os + d)
                _store(scratch, deltas + at, step)
                _store(scratch, raw + at, x)
                _store(scratch, inputs + at, _mul(step, x))
                _store(scratch, ys + at, _mul(direct, x))
                _store(scratch, dys + at, dy)
                _store(scratch, via_input + at, zero)
                _store(scratch, via_decay + at, zero)
                to_skip = _fma(dy, x, to_skip)
            if dskip != 0:
                _store(dskip, d, _add(_load(kind, dskip, d), to_skip))
        for t in range(m, CHUNK):
            _store(scratch, to_B + t * w, zero)
            _store(scratch, to_C + t * w, zero)
        for n in range(n_states):
            for v in range(nv):
                j = (v * n_states + n) * w
                a = _load(kind, scratch, rates + j)
                a2 = _mul(a, log2e)
                h = _load(kind, saved, (c * n_states + n) * dim + d0 + v * w)
                _store(scratch, states, h)
                at = v * CHUNK * w
                for t in range(m):
                    decay = _exp2(_mul(_load(kind, scratch, deltas + at), a2))
                    drive = _mul(
                        _load(kind, scratch, inputs + at), _spread(kind, Bm, (k + t) * bs + n)
                    )
                    h = _fma(decay, h, drive)
                    _store(scratch, decays + t * w, decay)
                    _store(scratch, states + (t + 1) * w, h)
                    if z != 0:
                        y = _load(kind, scratch, ys + at)
                        y = _fma(h, _spread(kind, Cm, (k + t) * cs + n), y)
                        _store(scratch, ys + at, y)
                    at += w
                g = _load(kind, scratch, adjoint + j)
                to_A = _load(kind, scratch, sums + j)
                for t in range(m - 1, -1, -1):
                    at = (v * CHUNK + t) * w
                    dy = _load(kind, scratch, dys + at)
                    g = _fma(dy, _spread(kind, Cm, (k + t) * cs + n), g)
                    c_part = _mul(dy, _load(kind, scratch, states + (t + 1) * w))
                    b_part = _mul(g, _load(kind, scratch, inputs + at))
                    if v != 0:
                        c_part = _add(c_part, _load(kind, scratch, to_C + t * w))
                        b_part = _add(b_part, _load(kind, scratch, to_B + t * w))
                    _store(scratch, to_C + t * w, c_part)
                    _store(scratch, to_B + t * w, b_part)
                    part = _load(kind, scratch, via_input + at)
                    part = _fma(g, _spread(kind, Bm, (k + t) * bs + n), part)
                    _store(scratch, via_input + at, part)
                    g = _mul(g, _load(kind, scratch, decays + t * w))
                    q = _mul(g, _load(kind, scratch, states + t * w))
                    part = _fma(q, a, _load(kind, scratch, via_decay + at))
                    _store(scratch, via_decay + at, part)
                    to_A = _fma(q, _load(kind, scratch, deltas + at), to_A)
                _store(scratch, adjoint + j, g)
                _store(scratch, sums + j, to_A)
            for t in range(0, CHUNK, w):
                at = n * padded + k + t
                to_row = _sum_lanes(kind, scratch, to_B + t * w)
                _store(dB, at, _add(_load(kind, dB, at), to_row))
                to_row = _sum_lanes(kind, scratch, to_C + t * w)
                _store(dC, at, _add(_load(kind, dC, at), to_row))
        for v in range(nv):
            d = d0 + v * w
            offset = _load(kind, bias, d) if bias != 0 else zero
            direct = _load(kind, skip, d) if skip != 0 else zero
            to_bias = zero
            for t in range(m):
                at = (v * CHUNK + t) * w
                i = (k + t) * os + d
                part = _load(kind, scratch, via_input + at)
                dy = _load(kind, scratch, dys + at)
                step = _load(kind, scratch, deltas + at)
                _store(du, i, _fma(step, part, _mul(direct, dy)))
                dstep = _fma(
                    _load(kind, scratch, raw + at), part, _load(kind, scratch, via_decay + at)
                )
                if softplus != 0:
                    argument = _add(_load(kind, delta, (k + t) * ts + d), offset)
                    dstep = _mul(dstep, _sigmoid(argument))
                _store(ddelta, i, dstep)
                to_bias = _add(to_bias, dstep)
                if z != 0:
                    gate = _load(kind, z, (k + t) * zs + d)
                    s = _sigmoid(gate)
                    slope = _mul(s, _fma(gate, _sub(one, s), one))
                    y = _load(kind, scratch, ys + at)
                    _store(dz, i, _mul(_mul(_load(kind, dout, (k + t) * gs + d), y), slope))
            if dbias != 0:
                _store(dbias, d, _add(_load(kind, dbias, d), to_bias))
    for v in range(nv):
        for n in range(n_states):
            at = (v * n_states + n) * w
            _store(dA, n * dim + d0 + v * w, _load(kind, scratch, sums + at))


@_compile
def scan_backward(
    kind, u, ub, us, delta, tb, ts, A, Bm, bb, bs, Cm, cb, cs, skip, z, zb, zs, bias, saved,
    dout, gb, gs, dlast, du, ddelta, dz, ob, os, dA, dB, dC, dskip, dbias,
    length, dim, n_states, padded, nv, softplus, reverse, scratch, first, end,
):  # fmt: skip
    """Gradients of the batch elements first <= b < end; arguments as in `scan_forward`.

    `du`, `ddelta`, `dz` share the strides `ob`, `os`. `dlast`, `dA` [batch, n_states, dim] and
    `dskip`, `dbias` [batch, dim] are per element, to be summed by the caller; `dB`, `dC`
    [batch, n_states, padded] are zeros on entry, in the order of the scan, `padded` a multiple of
    CHUNK. `scratch` holds nv * (3 * n_states + 112) * lanes + 65 * lanes elements.
    """
    w = _lanes(kind)
    size = 64 // w
    n_chunks = (length + CHUNK - 1) // CHUNK
    start = length - 1 if reverse != 0 else 0
    sign = -1 if reverse != 0 else 1
    before = flush_subnormals()
    for b in range(first, end):
        # kept out of the call: numba takes no conditional among so many arguments
        gate = z + (b * zb + start * zs) * size if z != 0 else 0
        from_last = dlast + b * n_states * dim * size if dlast != 0 else 0
        to_skip = dskip + b * dim * size if dskip != 0 else 0
        to_bias = dbias + b * dim * size if dbias != 0 else 0
        for d0 in range(0, dim, w * nv):
            _backward_block(
                kind,
                u + (b * ub + start * us) * size, sign * us,
                delta + (b * tb + start * ts) * size, sign * ts,
                A,
                Bm + (b * bb + start * bs) * size, sign * bs,
                Cm + (b * cb + start * cs) * size, sign * cs,
                skip,
                gate, sign * zs,
                bias,
                saved + b * n_chunks * n_states * dim * size,
                dout + (b * gb + start * gs) * size, sign * gs,
                from_last,
                du + (b * ob + start * os) * size,
                ddelta + (b * ob + start * os) * size,
                dz + (b * ob + start * os) * size,
                dA + b * n_states * dim * size,
                dB + b * n_states * padded * size,
                dC + b * n_states * padded * size,
                to_skip,
                to_bias,
                sign * os, length, dim, n_states, padded, d0, nv, softplus, scratch,
            )  # fmt: skip
    restore_arithmetic(before)


@_compile
def _conv_block(kind, x, xs, weight, bias, out, os, length, dim, taps, silu, d):
    """Convolve the channels from d of one batch element; four taps keep the window in registers."""
    zero = _fill(kind, 0.0)
    offset = _load(kind, bias, d) if bias != 0 else zero
    if taps == 4:
        w0 = _load(kind, weight, d)
        w1 = _load(kind, weight, dim + d)
        w2 = _load(kind, weight, 2 * dim + d)
        w3 = _load(kind, weight, 3 * dim + d)
        x0 = zero
        x1 = zero
        x2 = zero
        for t in range(length):
            x3 = _load(kind, x, t * xs + d)
            y = _fma(x3, w3, _fma(x2, w2, _fma(x1, w1, _fma(x0, w0, offset))))
            if silu != 0:
                y = _mul(y, _sigmoid(y))
            _store(out, t * os + d, y)
            x0 = x1
            x1 = x2
            x2 = x3
    else:
        for t in range(length):
            y = offset
            for k in range(max(0, taps - 1 - t), taps):
                value = _load(kind, x, (t - (taps - 1 - k)) * xs + d)
                y = _fma(value, _load(kind, weight, k * dim + d), y)
            if silu != 0:
                y = _mul(y, _sigmoid(y))
            _store(out, t * os + d, y)


@_compile
def conv_forward(
    kind, x, xb, xs, weight, bias, out, ob, os, weight_b, bias_b, out_b, length, dim, taps, silu,
    reverse, first, end,
):  # fmt: skip
    """Depthwise causal convolution, then SiLU, of the channel blocks first <= i < end of all
    batch * dim / lanes blocks; `weight` is [taps, dim].

    Reverse: anti-causal, the flipped result of the flipped input. `out_b` != 0: also the other
    direction with `weight_b`, `bias_b`, while the block of `x` is in the cache.
    """
    w = _lanes(kind)
    size = 64 // w
    blocks = dim // w
    start = length - 1 if reverse != 0 else 0
    sign = -1 if reverse != 0 else 1
    before = flush_subnormals()
    for i in range(first, end):
        b = i // blocks
        d = (i % blocks) * w
        row = x + (b * xb + start * xs) * size
        to = out + (b * ob + start * os) * size
        _conv_block(kind, row, sign * xs, weight, bias, to, sign * os, length, dim, taps, silu, d)
        if out_b != 0:
            row = x + (b * xb + (length - 1 - start) * xs) * size
            to = out_b + (b * ob + (length - 1 - start) * os) * size
            _conv_block(
                kind, row, -sign * xs, weight_b, bias_b, to, -sign * os, length, dim, taps, silu, d
            )
    restore_arithmetic(before)


@_compile
def _conv_gradients(
    kind, x, xs, dout, gs, weight, bias, dx, os, dweight, dbias, length, dim, taps, silu, d,
):  # fmt: skip
    """Gradients of the channels from d of one batch element; those of `weight`, `bias` are added.

    Sums over time in parts of _PART steps, so that rounding does not grow with the length. `dx`
    first takes the gradient before the activation, then its own values over it, in place: entry t
    needs only entries from t on.
    """
    zero = _fill(kind, 0.0)
    one = _fill(kind, 1.0)
    offset = _load(kind, bias, d) if bias != 0 else zero
    for start in range(0, length, _PART):
        stop = min(start + _PART, length)
        to_bias = zero
        for t in range(start, stop):
            g = _load(kind, dout, t * gs + d)
            if silu != 0:
                y = offset
                for k in range(max(0, taps - 1 - t), taps):
                    value = _load(kind, x, (t - (taps - 1 - k)) * xs + d)
                    y = _fma(value, _load(kind, weight, k * dim + d), y)
                s = _sigmoid(y)
                g = _mul(g, _mul(s, _fma(y, _sub(one, s), one)))
            _store(dx, t * os + d, g)
            to_bias = _add(to_bias, g)
        if dbias != 0:
            _store(dbias, d, _add(_load(kind, dbias, d), to_bias))
        for k in range(taps):
            back = taps - 1 - k
            total = zero
            for t in range(max(start, back), stop):
                value = _load(kind, x, (t - back) * xs + d)
                total = _fma(_load(kind, dx, t * os + d), value, total)
            _store(dweight, k * dim + d, _add(_load(kind, dweight, k * dim + d), total))
    for t in range(length):
        g = zero
        for k in range(max(0, taps - (length - t)), taps):
            value = _load(kind, dx, (t + taps - 1 - k) * os + d)
            g = _fma(value, _load(kind, weight, k * dim + d), g)
        _store(dx, t * os + d, g)


@_compile
def conv_backward(
    kind, x, xb, xs, dout, gb, gs, weight, bias, dx, ob, os, dweight, dbias, batch, length, dim,
    taps, silu, reverse, first, end,
):  # fmt: skip
    """Gradients of `conv_forward` for the channel blocks first <= i < end of all dim / lanes.

    `dweight` [taps, dim] and, where there is a bias, `dbias` [dim] are zeros on entry: a block sums
    over the whole batch, so that the number of threads changes no bit.
    """
    w = _lanes(kind)
    size = 64 // w
    start = length - 1 if reverse != 0 else 0
    sign = -1 if reverse != 0 else 1
    before = flush_subnormals()
    for i in range(first, end):
        for b in range(batch):
            _conv_gradients(
                kind, x + (b * xb + start * xs) * size, sign * xs,
                dout + (b * gb + start * gs) * size, sign * gs, weight, bias,
                dx + (b * ob + start * os) * size, sign * os, dweight, dbias, length, dim, taps,
                silu, i * w,
            )  # fmt: skip
    restore_arithmetic(before)


@_compile
def add_norm(kind, x, residual, weight, bias, total, out, dim, rms, epsilon, first, end):
    """total = x + residual and out = norm(total) * weight + bias, rows first <= i < end.

    Rows of `dim` elements (a multiple of lanes) without gaps. `residual` 0: total is x itself and
    is not written. `rms` 0: layer norm (mean and biased variance), else root mean square.
    """
    w = _lanes(kind)
    size = 64 // w
    before = flush_subnormals()
    for i in range(first, end):
        row = x + i * dim * size
        if residual != 0:
            other = residual + i * dim * size
            to = total + i * dim * size
        else:
            other = row
            to = row
        sums = _fill(kind, 0.0)
        for d in range(0, dim, w):
            value = _load(kind, row, d)
            if residual != 0:
                value = _add(value, _load(kind, other, d))
                _store(to, d, value)
            sums = _fma(value, value, sums) if rms != 0 else _add(sums, value)
        mean = _fill(kind, 0.0)
        if rms == 0:
            mean = _fill(kind, _total(sums) / dim)
            sums = _fill(kind, 0.0)
            for d in range(0, dim, w):
                value = _sub(_load(kind, to, d), mean)
                sums = _fma(value, value, sums)
        scale = _fill(kind, 1.0 / math.sqrt(_total(sums) / dim + epsilon))
        result = out + i * dim * size
        for d in range(0, dim, w):
            value = _mul(_mul(_sub(_load(kind, to, d), mean), scale), _load(kind, weight, d))
            if bias != 0:
                value = _add(value, _load(kind, bias, d))
            _store(result, d, value)
    restore_arithmetic(before)
