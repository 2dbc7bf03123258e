"""The pre-norm residual block around a mixer, its norms, and stacks of such blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mambabench.models.blocks.fused import add_norm
from mambabench.models.blocks.mixer import MambaMixer, MixerConfiguration
from mambabench.models.blocks.parts import RMSNorm

__all__ = [
    "Block",
    "DropPath",
    "drop_rates",
    "feed_drop_paths",
    "make_norm",
    "run_pairs",
    "run_sequence",
]

Uniform = Callable[[int], torch.Tensor]  # how many clips -> as many values in [0, 1)


def make_norm(dim: int, epsilon: float, rms: bool) -> nn.Module:
    """Return an RMSNorm or a LayerNorm."""
    return RMSNorm(dim, epsilon) if rms else nn.LayerNorm(dim, eps=epsilon)


class DropPath(nn.Module):
    """Stochastic depth: in training a clip's branch is left out with probability `rate`.

    What is kept is divided by 1 - rate. `uniform` gives one value per clip and call, kept where
    below 1 - rate; without it torch's global stream does. Source: Huang et al. 2016.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.uniform: Uniform | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x` [n, ...] with the branches of some clips set to 0."""
        if not self.training or self.rate == 0:
            return x
        values = torch.rand(len(x)) if self.uniform is None else self.uniform(len(x))
        kept = (values.to(x.device) < 1 - self.rate).to(x.dtype) / (1 - self.rate)
        return x * kept.reshape(-1, *(1,) * (x.ndim - 1))


def drop_rates(rate: float, depth: int) -> list[float]:
    """Return the rates on the way into each of `depth` blocks: 0, then from 0 up to below `rate`.

    The whole `rate` belongs to what the last block hands on (as Vim counts them).
    """
    return [0.0] + [rate * i / max(1, depth - 1) for i in range(depth - 1)]


def feed_drop_paths(model: nn.Module, uniform: Uniform | None) -> None:
    """Let every DropPath of `model` take its values from `uniform`, called in running order."""
    for module in model.modules():
        if isinstance(module, DropPath):
            module.uniform = uniform


class Block(nn.Module):
    """Add, norm, mix: the residual stream is handed on beside the mixer's output.

    mamba_ssm's `fused_add_norm` and `residual_in_fp32` settings change nothing here: the fused
    kernel computes the same, and the stream is never narrower than the weights.
    """

    def __init__(
        self, mixer: MixerConfiguration, epsilon: float, rms: bool, drop: float = 0.0
    ) -> None:
        super().__init__()
        self.drop_path = DropPath(drop)
        self.recompute = False  # in the backward pass: memory for time
        self.mixer = MambaMixer(mixer)
        self.norm = make_norm(mixer.d_model, epsilon, rms)

    def forward(
        self, hidden: torch.Tensor, residual: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (mixer output, residual stream) from the same pair of the block before."""
        if residual is not None:
            hidden = self.drop_path(hidden)
        fast = add_norm(self.norm, hidden, residual)
        if fast is not None:
            return self.mixer(fast[0]), fast[1]
        residual = hidden if residual is None else residual + hidden
        if self.recompute and self.training:
            mixed: torch.Tensor = checkpoint(self._mix, residual, use_reentrant=False)
            return mixed, residual
        return self._mix(residual), residual

    def _mix(self, residual: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.mixer(self.norm(residual))
        return mixed


HiddenAndResidual = tuple[torch.Tensor, torch.Tensor]


def run_sequence(blocks: Iterable[nn.Module], tokens: torch.Tensor) -> Iterator[HiddenAndResidual]:
    """Run blocks one after another; yield (hidden, residual) after each of them."""
    hidden, residual = tokens, None
    for block in blocks:
        hidden, residual = block(hidden, residual)
        yield hidden, residual


def run_pairs(blocks: Iterable[nn.Module], tokens: torch.Tensor) -> Iterator[HiddenAndResidual]:
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
