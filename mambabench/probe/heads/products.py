"""Matrix products of a head in explicit AVX-512 vectors, for CPUs where torch's are slow.

On a Zen 4 core torch's products (MKL) run at three quarters of the peak, these above nine tenths
where no side is short. A tile of 8 rows x 48 columns of the result stays in 24 registers while one
pass over the depth adds to it: per step three vectors of the right matrix, from panels packed into
the second-level cache, and eight broadcast numbers of the left one, read where they lie. Ragged
edges are covered by tiles that overlap their neighbours and write the same numbers again, so
nothing is padded and no tile is masked. Each number is summed in the order of the depth, in parts
of up to 192 as MKL does, so that the results are torch's to the last bit where it uses that; they
depend on the operands alone, not on threads, load or addresses.

Everything that numba compiles is in this one file, because numba's cache on disk notices edits only
of the file that defines a function. Importing it needs numba (`heads.numba_available`).
"""

# mypy: ignore-errors
# (numba gives the types here: an intrinsic is called without the typing context it declares)

from __future__ import annotations

import functools
import threading
from typing import Any

import llvmlite.binding
import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["compiled_multiply", "host_gains", "multiply", "suits"]

LANES = 16
ROWS, VECTORS = 8, 3  # of a tile: 24 sums, three vectors and a broadcast fit in 32 registers
UNROLLED = 2  # steps of the depth per turn of the loop
LEFT_ROWS = 128  # rows of the left matrix per block: half a MiB at depth 1024
NARROW, WIDE = 2 * 48, 22 * 48  # columns packed at a time; wide where the left one is packed too
AHEAD = 24  # rows prefetched while packing: the time that the third-level cache takes
DEEPEST = 4096  # bounds the packed panels to 20 MiB a thread
SMALLEST = 900_000  # multiplications below which the call costs more than the kernels gain

_INT32, _INT64 = ir.IntType(32), ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()
_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)


@functools.cache
def host_gains() -> bool:
    """Say whether this machine is one whose products these beat: AMD with AVX-512 (Zen 4, 5).

    MKL takes slower code there than on Intel's CPUs.
    """
    name = llvmlite.binding.get_host_cpu_name()
    if not name.startswith("znver"):
        return False
    return bool(llvmlite.binding.get_host_cpu_features().get("avx512f"))


def suits(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> bool:
    """Say whether the kernels cover a product: float32 on the CPU, rows or columns contiguous.

    Fewer rows than a tile has gain nothing here: torch's are as fast.
    """
    return (
        a.shape[1] == b.shape[0] <= DEEPEST
        and out.shape == (a.shape[0], b.shape[1])
        and a.shape[0] >= ROWS
        and a.shape[1] > 0
        and b.shape[1] >= LANES
        and a.dtype == b.dtype == out.dtype == torch.float32
        and a.is_cpu
        and b.is_cpu
        and out.is_cpu
        and 1 in a.stride()
        and 1 in b.stride()
        and out.stride(1) == 1
    )


def multiply(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
    """Set out [m, n] = a [m, depth] @ b [depth, n].

    The shapes and the machine choose the way, so results do not depend on anything else. `out`
    shares no memory with `a` or `b`.
    """
    large = out.numel() * a.shape[1] >= SMALLEST
    if large and host_gains() and suits(a, b, out):
        _run(a, b, out)
    else:
        torch.mm(a, b, out=out)


def compiled_multiply(
    a: torch.Tensor, b: torch.Tensor, out: torch.Tensor, bias: torch.Tensor | None = None
) -> None:
    """Set out = a @ b + bias [n] by the kernels anywhere; ValueError where they do not suit."""
    if not suits(a, b, out):
        raise ValueError(
            f"these products take float32 matrices on the CPU with contiguous rows or columns, at "
            f"least {ROWS} rows, {LANES} columns and 1 to {DEEPEST} deep; not {[*a.shape]} times "
            f"{[*b.shape]} into {[*out.shape]}"
        )
    _run(a, b, out, bias)


def _run(
    a: torch.Tensor, b: torch.Tensor, out: torch.Tensor, bias: torch.Tensor | None = None
) -> None:
    (m, depth), n = a.shape, b.shape[1]
    (a_down, a_along), (b_down, b_along) = a.stride(), b.stride()
    across_a, across_b = a_along != 1, b_along != 1
    columns = WIDE if across_a else NARROW
    _product(
        a.data_ptr(),
        4 * (a_along if across_a else a_down),
        across_a,
        b.data_ptr(),
        4 * (b_along if across_b else b_down),
        across_b,
        out.data_ptr(),
        4 * out.stride(0),
        0 if bias is None else bias.data_ptr(),
        m,
        depth,
        n,
        columns,
        _scratch(depth * (columns + LANES) + LEFT_ROWS * (depth + LANES) + LANES),
    )


class _Local(threading.local):
    """Memory for packed panels, one piece per thread."""

    floats = np.empty(0, np.float32)
    address = 0  # the first in it that starts a cache line


_LOCAL = _Local()


def _scratch(floats: int) -> int:
    """Return the address of the thread's scratch of at least this size, starting a cache line."""
    if len(_LOCAL.floats) < floats:
        _LOCAL.floats = np.empty(floats, np.float32)
        _LOCAL.address = (_LOCAL.floats.ctypes.data + 63) & -64
    return _LOCAL.address


def _constant(x: int) -> Any:
    return ir.Constant(_INT64, x)


def _pick(b: Any, x: Any, y: Any, lanes: list[int]) -> Any:
    return b.shuffle_vector(x, y, ir.Constant(ir.VectorType(_INT32, LANES), lanes))


def _load(b: Any, base: Any, offset: Any, kind: Any) -> Any:
    value = b.load(b.bitcast(b.gep(base, [offset]), kind.as_pointer()))
    value.align = 4
    return value


def _store(b: Any, value: Any, base: Any, offset: Any) -> None:
    b.store(value, b.bitcast(b.gep(base, [offset]), _VECTOR.as_pointer())).align = 4


def _spread(b: Any, scalar: Any) -> Any:
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = b.insert_element(undefined, scalar, ir.Constant(_INT32, 0))
    return _pick(b, first, undefined, [0] * LANES)


def _multiply_add(b: Any, x: Any, y: Any, z: Any) -> Any:
    # "fmuladd", not "fma": without an FMA unit the latter becomes a library call per lane
    signature = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    function = cgutils.get_or_insert_function(b.module, signature, "llvm.fmuladd.v16f32")
    return b.call(function, [x, y, z])


def _accumulate(
    b: Any,
    left: list[Any],
    a_step: Any,
    start: tuple[Any, Any],
    sums: list[Any],
    end: Any,
    unrolled: int,
) -> tuple[tuple[Any, Any], list[Any]]:
    """Emit the loop over the depth; return where it ended and the sums.

    `start` and what is returned: bytes gone along the rows of `left`, and the packed row reached.
    """
    vectors = len(sums) // len(left)
    before = b.block
    head, body, after = (b.append_basic_block(name) for name in ("head", "body", "after"))
    b.branch(head)
    b.position_at_end(head)
    state = [b.phi(value.type) for value in (*start, *sums)]
    for phi, value in zip(state, (*start, *sums), strict=True):
        phi.add_incoming(value, before)
    (along, packed), new = state[:2], state[2:]
    b.cbranch(b.icmp_signed("<", along, end), body, after)
    b.position_at_end(body)
    for step in range(unrolled):
        lines = range(step * vectors, (step + 1) * vectors)
        right = [_load(b, packed, _constant(64 * line), _VECTOR) for line in lines]
        for r, row in enumerate(left):
            x = _spread(b, _load(b, row, along, _FLOAT))
            for v in range(vectors):
                i = r * vectors + v
                new[i] = _multiply_add(b, x, right[v], new[i])
        along = b.add(along, a_step)
    packed_next = b.gep(packed, [_constant(64 * vectors * unrolled)])
    for phi, value in zip(state, (along, packed_next, *new), strict=True):
        phi.add_incoming(value, b.block)
    b.branch(head)
    b.position_at_end(after)
    return (state[0], packed), state[2:]


def _tile(vectors: int) -> Any:
    """Make the kernel of a tile of ROWS x 16 `vectors` results."""

    @intrinsic
    def tile(
        typing: Any,
        a: Any,
        a_stride: Any,
        a_step: Any,
        panel: Any,
        out: Any,
        out_stride: Any,
        addend: Any,
        addend_stride: Any,
        depth: Any,
    ) -> Any:
        """Set the tile at `out` to ROWS rows at `a` times a panel; strides in bytes.

        The tile at `addend` is added, unless that is 0.
        """

        def emit(context: Any, b: Any, signature: Any, args: Any) -> Any:
            a, a_stride, a_step, panel, out, out_stride, addend, addend_stride, depth = args

            def rows(base: Any, stride: Any) -> list[Any]:
                steps = [b.mul(stride, _constant(r)) for r in range(ROWS)]
                return [b.inttoptr(b.add(base, step), _BYTES) for step in steps]

            left = rows(a, a_stride)
            sums = [ir.Constant(_VECTOR, [0.0] * LANES)] * (ROWS * vectors)
            end = b.mul(depth, a_step)
            whole = b.mul(b.and_(depth, _constant(-UNROLLED)), a_step)
            start = (_constant(0), b.inttoptr(panel, _BYTES))
            start, sums = _accumulate(b, left, a_step, start, sums, whole, UNROLLED)
            _, sums = _accumulate(b, left, a_step, start, sums, end, 1)
            targets, terms = rows(out, out_stride), rows(addend, addend_stride)
            with b.if_else(b.icmp_signed("==", addend, _constant(0))) as (alone, more):
                with alone:
                    for i, total in enumerate(sums):
                        _store(b, total, targets[i // vectors], _constant(64 * (i % vectors)))
                with more:
                    for i, total in enumerate(sums):
                        r, line = i // vectors, _constant(64 * (i % vectors))
                        total = b.fadd(_load(b, terms[r], line, _VECTOR), total)
                        _store(b, total, targets[r], line)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 9), emit

    return tile


_tile1, _tile2, _tile3 = map(_tile, (1, 2, 3))


@intrinsic
def _transpose(typing: Any, source: Any, source_stride: Any, target: Any, target_stride: Any):
    """Write the 16 x 16 numbers at `source` transposed to `target`; strides in bytes."""

    def emit(context: Any, b: Any, signature: Any, args: Any) -> Any:
        source, source_stride, target, target_stride = args
        base = b.inttoptr(source, _BYTES)
        rows = [_load(b, base, b.mul(source_stride, _constant(r)), _VECTOR) for r in range(LANES)]
        half = LANES // 2
        while half:  # swap the off-diagonal quarters, then those of every quarter, ...
            low = [i + LANES - half if i & half else i for i in range(LANES)]
            high = [i + LANES if i & half else i + half for i in range(LANES)]
            for r in range(LANES):
                if not r & half:
                    x, y = rows[r], rows[r + half]
                    rows[r], rows[r + half] = _pick(b, x, y, low), _pick(b, x, y, high)
            half //= 2
        base = b.inttoptr(target, _BYTES)
        for r in range(LANES):
            _store(b, rows[r], base, b.mul(target_stride, _constant(r)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), emit


@intrinsic
def _copy(typing: Any, source: Any, target: Any, ahead: Any) -> Any:
    """Copy one vector and prefetch the one `ahead` bytes further on."""

    def emit(context: Any, b: Any, signature: Any, args: Any) -> Any:
        signature = ir.FunctionType(ir.VoidType(), [_BYTES, *[_INT32] * 3])
        prefetch = cgutils.get_or_insert_function(b.module, signature, "llvm.prefetch.p0i8")
        source = b.inttoptr(args[0], _BYTES)
        options = [ir.Constant(_INT32, x) for x in (0, 3, 1)]  # to read, keep, data
        b.call(prefetch, [b.gep(source, [args[2]]), *options])
        x = _load(b, source, _constant(0), _VECTOR)
        _store(b, x, b.inttoptr(args[1], _BYTES), _constant(0))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), emit


def _compile(function: Any) -> Any:
    """Compile for the types of the first call, keeping machine code on disk where that can be."""
    try:
        return njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # no folder that can be written to, neither beside this file nor at home
        return njit(nogil=True, error_model="numpy")(function)


@intrinsic
def _move(typing: Any, source: Any, target: Any) -> Any:
    """Copy one number."""

    def emit(context: Any, b: Any, signature: Any, args: Any) -> Any:
        x = _load(b, b.inttoptr(args[0], _BYTES), _constant(0), _FLOAT)
        b.store(x, b.inttoptr(args[1], _FLOAT.as_pointer()))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 2), emit


@_compile
def _turn(source, source_stride, target, target_stride, rows, columns):
    """Write rows x columns numbers transposed."""
    if rows < LANES or columns < LANES:
        for i in range(rows):
            for j in range(columns):
                _move(source + i * source_stride + 4 * j, target + j * target_stride + 4 * i)
        return
    for i0 in range(0, rows, LANES):
        i = min(i0, rows - LANES)
        for j0 in range(0, columns, LANES):
            j = min(j0, columns - LANES)
            corner = source + i * source_stride + 4 * j
            _transpose(corner, source_stride, target + j * target_stride + 4 * i, target_stride)


@_compile
def _panel(j, n):
    """Return where the panel of columns from j on starts, and its vectors.

    A rest of four vectors is halved, for one vector alone is slow; ragged columns at the end are
    those of a panel that ends there and overlaps the one before.
    """
    left = (n - j) // LANES
    if left == 0:
        return n - LANES, 1
    if left == VECTORS + 1:
        return j, 2
    return j, min(left, VECTORS)


@_compile
def _pack(b, stride, across, depth, n, target):
    """Write n columns as panels, one after another: rows [depth] of 16, 32 or 48 numbers."""
    j = 0
    while j < n:
        j, vectors = _panel(j, n)
        width = 64 * vectors
        if across:
            _turn(b + j * stride, stride, target, width, LANES * vectors, depth)
        else:
            for k in range(depth):
                source = b + k * stride + 4 * j
                for v in range(vectors):
                    _copy(source + 64 * v, target + k * width + 64 * v, AHEAD * stride)
        target += depth * width
        j += LANES * vectors


@_compile
def _gather(a, stride, depth, m, target):
    """Write m columns as rows [depth] of LEFT_ROWS numbers."""
    for k in range(depth):
        source, to = a + k * stride, target + 4 * LEFT_ROWS * k
        if m < LANES:
            for i in range(m):
                _move(source + 4 * i, to + 4 * i)
        else:
            for i0 in range(0, m, LANES):
                i = min(i0, m - LANES)
                _copy(source + 4 * i, to + 4 * i, AHEAD * stride)


@_compile
def _partial(depth):
    """Return the depth of the partial sums that MKL adds up, whose order makes its last bit."""
    if depth <= 192:
        return depth
    return 192 if depth >= 384 else depth // 2


@_compile
def _block(a, a_stride, a_step, panels, out, out_stride, bias, m, depth, n):
    """Multiply m rows with all packed panels and add the bias of each column, unless that is 0.

    `a_step` leads to a row's next number.
    """
    j = 0
    most = _partial(depth)
    while j < n:
        j, vectors = _panel(j, n)
        for r in range(0, m, ROWS):
            row = min(r, m - ROWS)
            tile = out + row * out_stride + 4 * j
            term = bias + 4 * j if bias else 0
            term_stride = 0
            for k in range(0, depth, most):
                left = a + row * a_stride + k * a_step
                panel = panels + k * 64 * vectors
                n_k = min(most, depth - k)
                if vectors == 3:
                    _tile3(left, a_stride, a_step, panel, tile, out_stride, term, term_stride, n_k)
                elif vectors == 2:
                    _tile2(left, a_stride, a_step, panel, tile, out_stride, term, term_stride, n_k)
                else:
                    _tile1(left, a_stride, a_step, panel, tile, out_stride, term, term_stride, n_k)
                term, term_stride = tile, out_stride
        panels += depth * 64 * vectors
        j += LANES * vectors


@_compile
def _product(
    a,
    a_stride,
    across_a,
    b,
    b_stride,
    across_b,
    out,
    out_stride,
    bias,
    m,
    depth,
    n,
    columns,
    scratch,
):
    """Multiply matrices at addresses; strides in bytes, of the columns where `across`.

    `columns` are packed at a time: once for all rows, so that a left matrix that must be transposed
    block by block is so only once where `columns` >= n.
    """
    block = scratch + 4 * depth * (columns + LANES)
    for j0 in range(0, n, columns):
        width = max(min(columns, n - j0), LANES)
        j = min(j0, n - width)
        right = b + (j * b_stride if across_b else 4 * j)
        _pack(right, b_stride, across_b, depth, width, scratch)
        terms = bias + 4 * j if bias else 0
        for i0 in range(0, m, LEFT_ROWS):
            height = min(max(min(LEFT_ROWS, m - i0), LANES), m)
            i = min(i0, m - height)
            left, stride, step = a + i * a_stride, a_stride, 4
            if across_a:
                left, stride, step = block, 4, 4 * LEFT_ROWS
                _gather(a + 4 * i, a_stride, depth, height, left)
            tiles = out + i * out_stride + 4 * j
            _block(left, stride, step, scratch, tiles, out_stride, terms, height, depth, width)
