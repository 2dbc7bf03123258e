"""Small modules that blocks and mixers are made of."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["RMSNorm"]


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + epsilon) * weight over the last axis; no bias, no ``bias`` key."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise the last axis of `x`."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Convolution(nn.Conv1d):
    """The depthwise convolution over [n, channels, length], padded on both ends as in mamba_ssm.

    The mixer's kernels read its weights; called, as adapters and hooks need, it computes the same
    causal convolution in its first `length` outputs. It draws no initial weights.
    """

    def __init__(self, d_inner: int, d_conv: int) -> None:
        super().__init__(d_inner, d_inner, d_conv, padding=d_conv - 1, groups=d_inner)

    def reset_parameters(self) -> None:
        """Leave the weights to whoever fills the whole model."""
