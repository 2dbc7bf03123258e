"""Optimisers and parameter groups as the four systems have them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

__all__ = [
    "adam",
    "adamw",
    "all_in_one",
    "clip_gradients",
    "decay_groups",
    "decayed_head_groups",
    "head_groups",
]

Named = tuple[str, nn.Parameter]
Group = dict[str, Any]


def _trainable(model: nn.Module) -> Iterable[Named]:
    return ((n, p) for n, p in model.named_parameters() if p.requires_grad)


def decay_groups(model: nn.Module, weight_decay: float) -> list[Group]:
    """Return SSAM's two groups: vectors and biases without decay, then everything else with it."""
    plain = [p for n, p in _trainable(model) if p.ndim <= 1 or n.endswith(".bias")]
    rest = [p for n, p in _trainable(model) if not (p.ndim <= 1 or n.endswith(".bias"))]
    return [
        {"params": plain, "weight_decay": 0.0},
        {"params": rest, "weight_decay": weight_decay},
    ]


def all_in_one(model: nn.Module, weight_decay: float, fixed: bool = False) -> list[Group]:
    """Return one group of everything trainable; `fixed` adds floating parameters without gradient.

    SSAM's `bias_decay` passes its position table to the optimiser, which skips it.
    """
    named = model.named_parameters() if fixed else _trainable(model)
    return [{"params": [p for _, p in named], "weight_decay": weight_decay}]


def head_groups(model: nn.Module, lr: float, factor: float, head: str) -> list[Group]:
    """Return two groups: all but the head at `lr`, parameters under `head` at lr * factor."""
    named = list(_trainable(model))
    return [
        {"params": [p for n, p in named if not n.startswith(head)], "lr": lr},
        {"params": [p for n, p in named if n.startswith(head)], "lr": lr * factor},
    ]


def decayed_head_groups(
    model: nn.Module, weight_decay: float, lr: float, factor: float, head: str
) -> list[Group]:
    """Return `decay_groups` of all but the head at `lr`, then of the head at lr * factor."""
    below = {id(p) for n, p in _trainable(model) if n.startswith(head)}
    found: list[Group] = []
    for rate, wanted in ((lr, False), (lr * factor, True)):
        for group in decay_groups(model, weight_decay):
            own = [p for p in group["params"] if (id(p) in below) == wanted]
            found.append({**group, "params": own, "lr": rate})
    return [group for group in found if group["params"]]


def adamw(
    groups: list[Group], lr: float, betas: tuple[float, float], eps: float = 1e-8
) -> torch.optim.Optimizer:
    """Return AdamW: the decay is taken off the weights, not added to the gradient."""
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps)


def adam(
    groups: list[Group],
    lr: float,
    betas: tuple[float, float] = (0.95, 0.999),
    weight_decay: float = 5e-7,
    scale: int = 1,
) -> torch.optim.Optimizer:
    """Return Adam with the decay in the gradient.

    `scale` K is AuM's bs_scale_factor: betas 1 - (1 - b) K, eps / sqrt(K).
    """
    first, second = (1 - (1 - beta) * scale for beta in betas)
    eps = 1e-8 / scale**0.5
    return torch.optim.Adam(
        groups, lr=lr, betas=(first, second), eps=eps, weight_decay=weight_decay
    )


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float | None) -> torch.Tensor:
    """Return the 2-norm of all gradients as they were, after bringing it down to `limit`."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if limit is not None:
        factor = (limit / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factor.to(gradient.device))
    return norm
