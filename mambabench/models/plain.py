"""What a sub-module or tensor must be for kernels to read its weights instead of calling it.

A layer that was wrapped, hooked, parametrised, quantised or patched does something else than its
weights say; only calling it is right. The same holds for tensors under torch's transforms and
tracing, and under autocast.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["forward_ad_active", "is_plain", "transforms_active"]

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
_HOOKS_OF_ALL = tuple(
    getattr(nn.modules.module, name)
    for name in (
        "_global_forward_hooks",
        "_global_forward_pre_hooks",
        "_global_backward_hooks",
        "_global_backward_pre_hooks",
    )
)


def is_plain(module: nn.Module | None, kinds: tuple[type[nn.Module], ...]) -> bool:
    """Say whether `module` is of exactly one of `kinds` and computes what that class does."""
    if type(module) not in kinds or module is None:
        return False
    own = module.__dict__
    if "forward" in own or any(own[name] for name in _HOOKS) or any(_HOOKS_OF_ALL):
        return False
    return all(x is None or type(x) is nn.Parameter for x in own["_parameters"].values())


def transforms_active() -> bool:
    """Say whether torch.func's vmap, grad, jvp or the like are at work around this call."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def forward_ad_active(tensors: tuple[Tensor | None, ...]) -> bool:
    """Say whether one of `tensors` carries a tangent of forward-mode differentiation."""
    forward_ad: Any = torch.autograd.forward_ad
    if forward_ad._current_level < 0:
        return False
    return any(x is not None and forward_ad.unpack_dual(x).tangent is not None for x in tensors)
