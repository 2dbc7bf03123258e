"""Say whether compiled kernels can be had, and hand them out.

A module of kernels imports numba, half a second: it is imported by the first head that uses it.
"""

from __future__ import annotations

import functools
from types import ModuleType

__all__ = ["exact_kernels", "kernels", "numba_available"]


@functools.cache
def numba_available() -> bool:
    """Say whether numba can be imported."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


@functools.cache
def kernels() -> ModuleType:
    """Return the kernels of heads that round as they like."""
    from mambabench.probe.heads import kernels

    return kernels


@functools.cache
def exact_kernels() -> ModuleType:
    """Return the kernels of heads that round as torch does."""
    from mambabench.probe.heads import exact_kernels

    return exact_kernels
