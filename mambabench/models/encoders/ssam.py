"""SSAM (MambaSSAST) and its transformer twin on spectrograms: encoder and masked pretraining.

Keys, shapes and their order are those of the published checkpoints; audio comes in through
`mambabench.models.encoders.ssam_runtime`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from mambabench.models.blocks.block import Block, run_sequence
from mambabench.models.blocks.mixer import MixerConfiguration
from mambabench.models.blocks.patch import PatchEmbedding, sinusoidal_positions
from mambabench.models.blocks.transformer import TransformerBlock

__all__ = ["MaskedLoss", "SsamConfiguration", "SsamEncoder", "masking_from_noise", "patchify"]


@dataclass(frozen=True)
class SsamConfiguration:
    """Architecture of SSAM or of its twin; the defaults are what every published model shares."""

    embed_dim: int
    depth: int = 12
    num_heads: int = 0  # 0: Mamba blocks; otherwise transformer blocks with so many heads
    img_size: tuple[int, int] = (200, 80)  # (time, frequency), swapped with frequency_first
    patch_size: tuple[int, int] = (4, 16)
    d_state: int = 24
    d_conv: int = 4
    expand: int = 3
    rms_norm: bool = False
    norm_epsilon: float = 1e-6
    mlp_ratio: float = 4.0
    use_cls_token: bool = True
    frequency_first: bool = False  # as upstream: its patches are scrambled; no published model
    mask_ratio: float = 0.5
    masking_mode: str = "unstructured"  # or "timestep": whole columns of patches

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along the two axes of the image."""
        return self.img_size[0] // self.patch_size[0], self.img_size[1] // self.patch_size[1]

    @property
    def n_patches(self) -> int:
        """Patches of one chunk."""
        return self.grid[0] * self.grid[1]


class MaskedLoss(NamedTuple):
    """What masked pretraining computes, before the optimiser."""

    loss: torch.Tensor  # scalar: mean squared error over all patches, masked or not, as upstream
    prediction: torch.Tensor  # [n, n_patches, patch pixels]
    target: torch.Tensor  # the same shape
    mask: torch.Tensor  # [n, n_patches], 1 where a patch was replaced
    ids_restore: torch.Tensor  # [n, n_patches] int64


class SsamEncoder(nn.Module):
    """Spectrogram chunks [n, 1, time, frequency] -> tokens, one forward per chunk.

    Tokens are time-major: token t * n_bands + f sees time step t and band f.
    """

    pos_embed: nn.Parameter
    cls_token: nn.Parameter

    def __init__(self, configuration: SsamConfiguration) -> None:
        super().__init__()
        c = self.configuration = configuration
        if c.use_cls_token:
            self.cls_token = nn.Parameter(torch.empty(1, 1, c.embed_dim))
        # fixed, but part of the published state dicts
        positions = torch.empty(1, c.n_patches + c.use_cls_token, c.embed_dim)
        self.pos_embed = nn.Parameter(positions, requires_grad=False)
        self.mask_token = nn.Parameter(torch.empty(1, 1, c.embed_dim))
        self.patch_embed = PatchEmbedding(c.embed_dim, c.patch_size, c.patch_size)
        self.encoder_norm = nn.LayerNorm(c.embed_dim, eps=1e-6)
        n_pixels = c.patch_size[0] * c.patch_size[1]
        self.pred = nn.Sequential(
            nn.Linear(c.embed_dim, c.embed_dim), nn.GELU(), nn.Linear(c.embed_dim, n_pixels)
        )
        self.blocks = nn.ModuleList(self._block() for _ in range(c.depth))

    def _block(self) -> nn.Module:
        c = self.configuration
        if c.num_heads:
            return TransformerBlock(c.embed_dim, c.num_heads, c.mlp_ratio, epsilon=1e-6)
        mixer = MixerConfiguration(c.embed_dim, c.d_state, c.d_conv, c.expand)
        return Block(mixer, c.norm_epsilon, c.rms_norm)

    @property
    def initial_rules(self) -> dict[str, str]:
        """Name what the authors initialise otherwise than torch (`models.blocks.initialise`)."""
        rules = {"patch_embed.proj.weight": "xavier", "patch_embed.proj.bias": "zero"}
        if self.configuration.num_heads:
            kinds = {"weight": "xavier", "bias": "zero"}
            return rules | {
                f"blocks.*.{part}.{kind}": rule
                for part in ("attn.*", "mlp.*")
                for kind, rule in kinds.items()
            }
        return rules | {"pred.*.bias": "zero"}

    @torch.no_grad()
    def fill_fixed(self) -> None:
        """Write the fixed sinusoidal table into `pos_embed`."""
        c = self.configuration
        self.pos_embed.copy_(sinusoidal_positions(c.embed_dim, c.grid, c.use_cls_token))

    def patch_tokens(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """Embed patches, [n, n_patches, embed_dim], without positions."""
        grid: torch.Tensor = self.patch_embed(spectrogram)
        if self.configuration.frequency_first:
            # upstream reads (batch, time, channel, frequency) as tokens: channels and bands mix
            return grid.permute(0, 3, 1, 2).reshape(grid.shape[0], -1, grid.shape[1])
        return grid.flatten(2).transpose(1, 2)

    def _with_class(self, tokens: torch.Tensor) -> torch.Tensor:
        """Prepend the class token to positioned patch tokens."""
        if not self.configuration.use_cls_token:
            return tokens
        first = (self.cls_token + self.pos_embed[:, :1]).expand(tokens.shape[0], -1, -1)
        return torch.cat((first, tokens), dim=1)

    def _patch_positions(self) -> torch.Tensor:
        return self.pos_embed[:, int(self.configuration.use_cls_token) :]

    def tokens_in(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """Return the first block's input, class token first."""
        return self._with_class(self.patch_tokens(spectrogram) + self._patch_positions())

    def block_states(
        self, tokens: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        """Yield (hidden, residual) after each block; a transformer's residual is None."""
        return run_sequence(self.blocks, tokens)

    def hidden_states(
        self, spectrogram: torch.Tensor, layers: tuple[int, ...] | None = None
    ) -> list[torch.Tensor]:
        """Return the chosen hidden states [n, n_patches, embed_dim], class token dropped.

        0 is the first block's input, i the stream after block i, `depth` the normalised output;
        None chooses that one only.
        """
        depth = self.configuration.depth
        chosen = (depth,) if layers is None else layers
        tokens = self.tokens_in(spectrogram)
        kept = {0: tokens} if 0 in chosen else {}
        for index, (hidden, residual) in enumerate(self.block_states(tokens), start=1):
            if index in chosen or index == depth:
                kept[index] = hidden if residual is None else hidden + residual
        if depth in chosen:
            kept[depth] = self.encoder_norm(kept[depth])
        first = int(self.configuration.use_cls_token)
        return [kept[index][:, first:] for index in chosen]

    def encode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Run blocks and final norm over all tokens, class token included."""
        stream = tokens
        for hidden, residual in self.block_states(tokens):
            stream = hidden if residual is None else hidden + residual
        normalised: torch.Tensor = self.encoder_norm(stream)
        return normalised

    def pretrain(
        self, spectrogram: torch.Tensor, noise: torch.Tensor, norm_pixels: bool = False
    ) -> MaskedLoss:
        """Predict every patch from a half-masked chunk.

        `noise` [n, n_patches] (or [n, time steps] with masking_mode "timestep") decides by its
        order what is masked: the highest go. `norm_pixels` standardises each target patch.
        """
        c = self.configuration
        if c.masking_mode == "timestep":
            noise = noise.repeat_interleave(c.grid[1], dim=1)
        mask, ids_restore = masking_from_noise(noise, c.mask_ratio)
        tokens = self.patch_tokens(spectrogram) + self._patch_positions()
        # a masked patch loses its position too, as upstream
        tokens = torch.where(mask[..., None].bool(), self.mask_token.to(tokens.dtype), tokens)
        encoded = self.encode(self._with_class(tokens))
        prediction = self.pred(encoded[:, int(c.use_cls_token) :])
        target = patchify(spectrogram, c.patch_size, c.frequency_first)
        if norm_pixels:
            mean = target.mean(dim=-1, keepdim=True)
            target = (target - mean) / (target.var(dim=-1, keepdim=True) + 1e-6).sqrt()
        loss = (prediction - target).square().mean()
        return MaskedLoss(loss, prediction, target, mask, ids_restore)


def masking_from_noise(noise: torch.Tensor, ratio: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (mask, ids_restore) [n, n_patches]: the lowest noise is kept, mask is 1 elsewhere."""
    n_patches = noise.shape[1]
    n_kept = int(n_patches * (100 - 100 * ratio) / 100)
    ids_restore = noise.argsort(dim=1).argsort(dim=1)  # rank of each patch
    return (ids_restore >= n_kept).to(noise.dtype), ids_restore


def patchify(
    spectrogram: torch.Tensor, patch: tuple[int, int], frequency_first: bool = False
) -> torch.Tensor:
    """Cut [n, 1, height, width] into patches [n, n_patches, pixels], time-major as the tokens.

    Pixels run in the image's order; with `frequency_first` the grid is read time first, and inside
    a patch time comes before frequency.
    """
    n, _, height, width = spectrogram.shape
    rows, columns = height // patch[0], width // patch[1]
    grid = spectrogram.reshape(n, rows, patch[0], columns, patch[1])
    order = (0, 3, 1, 4, 2) if frequency_first else (0, 1, 3, 2, 4)
    return grid.permute(order).reshape(n, rows * columns, patch[0] * patch[1])
