"""The pre-norm residual block around a mixer, its norms, and stacks of such blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import nn
from torch.nn import functional as F

from mambabench.models.blocks.fused import add_norm
from mambabench.models.blocks.mixer import MambaMixer, MixerConfiguration

__all__ = ["Block", "RMSNorm", "make_norm", "run_pairs", "run_sequence"]


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + epsilon) * weight over the last axis; no bias, no ``bias`` key."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise the last axis of `x`."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def make_norm(dim: int, epsilon: float, rms: bool) -> nn.Module:
    """Return an RMSNorm or a LayerNorm."""
    return RMSNorm(dim, epsilon) if rms else nn.LayerNorm(dim, eps=epsilon)


class Block(nn.Module):
    """Add, norm, mix: the residual stream is handed on beside the mixer's output.

    mamba_ssm's `fused_add_norm` and `residual_in_fp32` settings change nothing here: the fused
    kernel computes the same, and the stream is never narrower than the weights.
    """

    def __init__(self, mixer: MixerConfiguration, epsilon: float, rms: bool) -> None:
        super().__init__()
        self.mixer = MambaMixer(mixer)
        self.norm = make_norm(mixer.d_model, epsilon, rms)

    def forward(
        self, hidden: torch.Tensor, residual: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (mixer output, residual stream) from the same pair of the block before."""
        fast = add_norm(self.norm, hidden, residual)
        if fast is not None:
            return self.mixer(fast[0]), fast[1]
        residual = hidden if residual is None else residual + hidden
        return self.mixer(self.norm(residual)), residual


State = tuple[torch.Tensor, torch.Tensor]


def run_sequence(blocks: Iterable[nn.Module], tokens: torch.Tensor) -> Iterator[State]:
    """Run blocks one after another; yield (hidden, residual) after each of them."""
    hidden, residual = tokens, None
    for block in blocks:
        hidden, residual = block(hidden, residual)
        yield hidden, residual


def run_pairs(blocks: Iterable[nn.Module], tokens: torch.Tensor) -> Iterator[State]:
    """Run blocks in pairs, the second of each on the reversed sequence, as Vim's VisionMamba does.

    Both halves carry the whole residual stream and are added, so the stream doubles with every
    pair: published weights were trained so. Yields (hidden, residual) after each pair.
    """
    layers = list(blocks)
    hidden, residual = tokens, None
    for forwards, backwards in zip(layers[::2], layers[1::2], strict=True):
        h_f, r_f = forwards(hidden, residual)
        flipped = None if residual is None else residual.flip(1)
        h_b, r_b = backwards(hidden.flip(1), flipped)
        hidden, residual = h_f + h_b.flip(1), r_f + r_b.flip(1)
        yield hidden, residual
