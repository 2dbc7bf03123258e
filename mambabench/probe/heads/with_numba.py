"""Say whether compiled kernels can be had."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

__all__ = ["numba_available"]


@functools.cache
def numba_available() -> bool:
    """Say whether numba can be imported."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True
