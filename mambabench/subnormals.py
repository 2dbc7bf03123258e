"""Arithmetic without subnormal numbers, for compiled kernels and only inside them.

Numbers below the smallest normal one (1.2e-38 in float32, 2.2e-308 in float64) are many times
slower than others on some processors: a state that decays after a sound, a moment of Adam whose
gradients ended. `flush_subnormals` makes the processor take and return zero for them in the thread
that calls it, `restore_arithmetic` puts back what was set before. Both are to be called in one
compiled function, which no exception or interrupt leaves half-way:

    before = flush_subnormals()
    ...
    restore_arithmetic(before)

On other processors than x86-64 both do nothing. numba's cache on disk does not notice edits of this
file: after one, delete the cached kernels of the modules that import it.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils as _cgutils
from numba.extending import intrinsic

__all__ = ["arithmetic", "flush_subnormals", "restore_arithmetic"]

_ON_X86 = platform.machine().lower() in ("x86_64", "amd64")
_INT32 = ir.IntType(32)
cgutils: Any = _cgutils  # untyped
# Bits of the control register MXCSR (Intel 64 manual, volume 1, section 10.2.3): results that are
# subnormal become zero (15), operands that are subnormal count as zero (6).
_FLUSH = 1 << 15 | 1 << 6


def _call(b: Any, name: str, place: Any) -> None:
    byte = ir.IntType(8).as_pointer()
    signature = ir.FunctionType(ir.VoidType(), [byte])
    function = cgutils.get_or_insert_function(b.module, signature, f"llvm.x86.sse.{name}")
    b.call(function, [b.bitcast(place, byte)])


def _read(b: Any) -> Any:
    if not _ON_X86:
        return ir.Constant(_INT32, 0)
    place = cgutils.alloca_once(b, _INT32)
    _call(b, "stmxcsr", place)
    return b.load(place)


def _write(b: Any, value: Any) -> None:
    if _ON_X86:
        _call(b, "ldmxcsr", cgutils.alloca_once_value(b, value))


def _flushed(typing: Any) -> Any:
    def emit(context: Any, b: Any, signature: Any, a: Any) -> Any:
        before = _read(b)
        _write(b, b.or_(before, ir.Constant(_INT32, _FLUSH)))
        return before

    return types.int32(), emit


def _restored(typing: Any, before: Any) -> Any:
    def emit(context: Any, b: Any, signature: Any, a: Any) -> Any:
        _write(b, a[0])
        return context.get_dummy_value()

    return types.void(types.int32), emit


def _shown(typing: Any) -> Any:
    return types.int32(), lambda context, b, signature, a: _read(b)


# Compiled code calls these without the typing context that the functions declare.
flush_subnormals: Any = intrinsic(_flushed)  # off in this thread; returns what was set before
restore_arithmetic: Any = intrinsic(_restored)  # takes that, exception flags included
_control: Any = intrinsic(_shown)


@njit(nogil=True)
def arithmetic() -> Any:
    """Return the calling thread's control register: rounding, flush modes, exception flags."""
    return _control()
