"""Where compiled kernels may read weights and memory directly, and where they may not.

A layer that was wrapped, hooked, parametrised, quantised or patched does something else than its
weights say; only calling it is right. Tensors under torch's tracing, transforms or forward-mode
differentiation stand for more than the numbers in their memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["is_eager", "is_plain", "is_transformed", "sizes", "untraced"]

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_HOOKS_OF_ALL = tuple(getattr(nn.modules.module, f"_global{name}") for name in _HOOKS)
_torch: Any = torch._C
_forward_ad: Any = torch.autograd.forward_ad


def is_plain(module: nn.Module | None, kinds: tuple[type[nn.Module], ...]) -> bool:
    """Say whether `module` is of exactly one of `kinds` and computes what that class does.

    Hooks, a patched ``forward`` and weights that are no ordinary tensors (subclasses of quantising
    libraries, or derived ones as by weight_norm) make it another layer.
    """
    if module is None or type(module) not in kinds or any(_HOOKS_OF_ALL):
        return False
    if any(getattr(module, name) for name in _HOOKS) or "forward" in module.__dict__:
        return False
    plain = (Tensor, nn.Parameter)
    return all(x is None or type(x) in plain for x in module._parameters.values())


def is_transformed(tensors: Iterable[Tensor | None]) -> bool:
    """Say whether torch.func's transforms are at work or one of `tensors` carries a tangent."""
    if torch.compiler.is_compiling():  # the compiler unfolds them itself
        return False
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return True
    if _forward_ad._current_level < 0:
        return False
    return any(x is not None and _forward_ad.unpack_dual(x).tangent is not None for x in tensors)


def is_eager(x: Tensor) -> bool:
    """Say whether `x` is just its numbers, here and now."""
    return (
        type(x) in (Tensor, nn.Parameter)
        and not torch.compiler.is_compiling()
        and not torch._C._is_tracing()
        and not is_transformed((x,))
    )


@contextmanager
def untraced() -> Iterator[None]:
    """Let torch.jit.trace record nothing: sizes are ints and may be compared."""
    state = _torch._get_tracing_state()
    _torch._set_tracing_state(None)
    try:
        yield
    finally:
        _torch._set_tracing_state(state)


def sizes(x: Tensor) -> tuple[int, ...]:
    """Return the shape in ints, which torch.jit.trace takes for constants."""
    if torch.compiler.is_compiling() or not torch._C._is_tracing():
        return x.shape
    with untraced():
        return tuple(x.shape)
