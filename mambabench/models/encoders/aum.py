"""AuM (Audio Mamba) on spectrograms, and its rules for loading other lengths and Vim's weights.

Keys, shapes and their order are those of the published checkpoints; audio comes in through
`mambabench.models.encoders.fbank_runtime`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from mambabench.errors import EncoderError
from mambabench.models.blocks.block import (
    Block,
    DropPath,
    drop_rates,
    make_norm,
    run_pairs,
    run_sequence,
)
from mambabench.models.blocks.mixer import MixerConfiguration
from mambabench.models.blocks.patch import PatchEmbedding, resample_kernel, resample_positions

__all__ = ["AumConfiguration", "AumEncoder", "adapt_state"]

CLASS_TOKENS = ("middle", "head", "end", "double", "none")
Pair = tuple[int, int]


@dataclass(frozen=True)
class AumConfiguration:
    """Architecture of AuM; the defaults are what the published models share."""

    embed_dim: int
    depth: int = 24
    spectrogram_size: Pair = (128, 1024)  # (bands, frames)
    patch_size: Pair = (16, 16)
    strides: Pair = (16, 16)
    num_classes: int = 527  # 0: no head
    directions: str = "v1"  # none: Fo-Fo (a), v1: Fo-Bi (b), v2: Bi-Bi (c)
    class_token: str = "middle"  # or head, end, double (head and tail, averaged), none (mean)
    rms_norm: bool = True
    norm_epsilon: float = 1e-5
    divide_out: bool = True
    paired: bool = False  # every second layer on the reversed sequence
    layer_scale: bool = False
    transposed: bool = False  # patches in time-major order
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    drop_path: float = 0.0  # of the last block's output in training

    def __post_init__(self) -> None:
        if self.class_token not in CLASS_TOKENS:
            raise ValueError(f"class_token must be one of {CLASS_TOKENS}, not {self.class_token!r}")

    @property
    def n_prefix(self) -> int:
        """Rows of the position table that belong to class tokens; they come first in it."""
        return {"none": 0, "double": 2}.get(self.class_token, 1)

    @property
    def grid(self) -> Pair:
        """Patches along frequency and time of the configured spectrogram."""
        return _grid(self.spectrogram_size, self.patch_size, self.strides)


def _grid(size: Pair, patch: Pair, strides: Pair) -> Pair:
    rows, columns = ((n - p) // s + 1 for n, p, s in zip(size, patch, strides, strict=True))
    return rows, columns


class _Positions(nn.Module):
    """The learned position table, class rows first wherever the class tokens sit."""

    def __init__(self, n_rows: int, dim: int) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.empty(1, n_rows, dim))


class AumEncoder(nn.Module):
    """Normalised fbanks [n, frames, bands] -> tokens, class vector, logits.

    Patch tokens are frequency-major (band * columns + column) unless `transposed`.
    """

    def __init__(self, configuration: AumConfiguration) -> None:
        super().__init__()
        c = self.configuration = configuration
        if c.class_token == "double":
            self.cls_token_head = nn.Parameter(torch.empty(1, 1, c.embed_dim))
            self.cls_token_tail = nn.Parameter(torch.empty(1, 1, c.embed_dim))
        elif c.class_token != "none":
            self.cls_token = nn.Parameter(torch.empty(1, 1, c.embed_dim))
        if c.num_classes:
            self.head = nn.Linear(c.embed_dim, c.num_classes)
        mixer = MixerConfiguration(
            c.embed_dim, c.d_state, c.d_conv, c.expand, c.directions, c.divide_out, c.layer_scale
        )
        self.layers = nn.ModuleList(
            Block(mixer, c.norm_epsilon, c.rms_norm, rate)
            for rate in drop_rates(c.drop_path, c.depth)
        )
        self.drop_path = DropPath(c.drop_path)
        self.norm_f = make_norm(c.embed_dim, c.norm_epsilon, c.rms_norm)
        self.patch_embed = PatchEmbedding(c.embed_dim, c.patch_size, c.strides)
        self.pos_embed = _Positions(c.n_prefix + c.grid[0] * c.grid[1], c.embed_dim)

    @property
    def n_states(self) -> int:
        """Hidden states: the first input, the stream after each step, the last one normalised."""
        return self.configuration.depth // (2 if self.configuration.paired else 1) + 1

    @property
    def initial_rules(self) -> dict[str, str]:
        """Name what the authors initialise otherwise than torch (`models.blocks.initialise`)."""
        return {
            "patch_embed.proj.weight": "lecun",
            "patch_embed.proj.bias": "zero",
            "head.weight": "small",
            "head.bias": "zero",
        }

    def patch_grid(
        self,
        fbank: torch.Tensor,
        patch_size: int | Pair | None = None,
        strides: int | Pair | None = None,
    ) -> torch.Tensor:
        """Embed patches as a grid [n, embed_dim, bands, columns].

        Another patch size resizes the kernel by pseudo-inverse; strides default to the
        configured ones. A whole number stands for both axes.
        """
        projection = self.patch_embed.proj
        patch = _pair(patch_size) or self.configuration.patch_size
        image = fbank.transpose(1, 2)[:, None]
        return nn.functional.conv2d(
            image,
            resample_kernel(projection.weight, patch),
            projection.bias,
            stride=_pair(strides) or self.configuration.strides,
        )

    def positions(self, grid: Pair, crop: bool = False) -> torch.Tensor:
        """Return the position table for a patch grid [1, n_prefix + patches, embed_dim].

        Another grid than the configured one is resampled, or with `crop` cut from the start of
        the time axis.
        """
        c, table = self.configuration, self.pos_embed.pos_embed
        if crop and grid != c.grid and grid[0] == c.grid[0] and grid[1] <= c.grid[1]:
            patches = torch.unflatten(table[:, c.n_prefix :], 1, c.grid)[:, :, : grid[1]]
            return torch.cat((table[:, : c.n_prefix], patches.flatten(1, 2)), dim=1)
        return resample_positions(table, c.grid, grid, c.n_prefix)

    def arrange(
        self, patches: torch.Tensor, positions: torch.Tensor, at: int | None = None
    ) -> torch.Tensor:
        """Add positions to a patch grid [n, embed_dim, bands, columns], order it, place the class
        tokens: the input of the first layer [n, n_tokens, embed_dim].

        `at` places a single class token elsewhere than configured.
        """
        c = self.configuration
        prefix, table = positions[:, : c.n_prefix], positions[:, c.n_prefix :]
        tokens = patches.flatten(2).transpose(1, 2) + table
        if c.transposed:
            grid = torch.unflatten(tokens, 1, (patches.shape[2], patches.shape[3]))
            tokens = grid.transpose(1, 2).flatten(1, 2)
        if c.class_token == "none":
            return tokens
        n = tokens.shape[0]
        if c.class_token == "double":
            head = (self.cls_token_head + prefix[:, :1]).expand(n, -1, -1)
            tail = (self.cls_token_tail + prefix[:, 1:]).expand(n, -1, -1)
            return torch.cat((head, tokens, tail), dim=1)
        token = (self.cls_token + prefix).expand(n, -1, -1)
        at = self.class_index(tokens.shape[1]) if at is None else at
        return torch.cat((tokens[:, :at], token, tokens[:, at:]), dim=1)

    def class_index(self, n_patches: int) -> int:
        """Return where the (first) class token stands among the tokens."""
        return {"middle": n_patches // 2, "end": n_patches}.get(self.configuration.class_token, 0)

    def layer_states(self, tokens: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (hidden, residual) after each layer, or after each pair of layers."""
        run = run_pairs if self.configuration.paired else run_sequence
        return run(self.layers, tokens)

    def finish(self, stream: torch.Tensor) -> torch.Tensor:
        """Return the normalised output of the last stream."""
        normalised: torch.Tensor = self.norm_f(stream)
        return normalised

    def encode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Run layers and final norm over all tokens."""
        hidden, residual = deque(self.layer_states(tokens), maxlen=1)[0]
        return self.finish(self.drop_path(hidden) + residual)

    def class_vector(self, tokens: torch.Tensor, at: int | None = None) -> torch.Tensor:
        """Pool final tokens [n, n_tokens, dim] into the head's input [n, dim].

        `at` is where `arrange` was told to put the class token.
        """
        kind = self.configuration.class_token
        if kind == "none":
            return tokens.mean(dim=1)
        if kind == "double":
            return (tokens[:, 0] + tokens[:, -1]) / 2
        return tokens[:, self.class_index(tokens.shape[1] - 1) if at is None else at]

    def without_class(self, tokens: torch.Tensor) -> torch.Tensor:
        """Drop the class tokens from [n, n_tokens, dim]."""
        kind = self.configuration.class_token
        if kind == "none":
            return tokens
        if kind == "double":
            return tokens[:, 1:-1]
        at = self.class_index(tokens.shape[1] - 1)
        return torch.cat((tokens[:, :at], tokens[:, at + 1 :]), dim=1)

    def forward(
        self,
        fbank: torch.Tensor,
        patch_size: int | Pair | None = None,
        strides: int | Pair | None = None,
        class_at: int | None = None,
    ) -> torch.Tensor:
        """Return logits [n, num_classes] (the class vector without a head).

        `patch_size` and `strides` may be whole numbers, as the authors' flexible training passes
        them; `class_at` puts a single class token before that patch.
        """
        patches = self.patch_grid(fbank, patch_size, strides)
        grid = (patches.shape[2], patches.shape[3])
        tokens = self.encode(self.arrange(patches, self.positions(grid), class_at))
        pooled = self.class_vector(tokens, class_at)
        return self.head(pooled) if self.configuration.num_classes else pooled


def _pair(size: int | Pair | None) -> Pair | None:
    return (size, size) if isinstance(size, int) else size


def adapt_state(
    state: Mapping[str, torch.Tensor], configuration: AumConfiguration, old_strides: Pair = (16, 16)
) -> dict[str, torch.Tensor]:
    """Rewrite a checkpoint of another length, patch size or of Vim for `configuration`.

    The position table is resampled (the class row stays; Vim's comes from the middle of its
    table), the patch kernel averaged over colours and resized, a head of another number of classes
    dropped. Source: AuM's loading of its own and of ImageNet checkpoints. EncoderError where the
    table fits no length from 2^6 to 2^19 frames.
    """
    c = configuration
    new = {key.replace("module.", ""): value for key, value in state.items()}
    kernel = new["patch_embed.proj.weight"].mean(dim=1, keepdim=True)
    old_patch = (kernel.shape[2], kernel.shape[3])
    if "pos_embed" in new:  # Vim's
        table, grid = _vim_positions(new.pop("pos_embed"))
    else:
        table = new["pos_embed.pos_embed"]
        grid = _trained_grid(table.shape[1] - c.n_prefix, c, old_patch, old_strides)
    new["pos_embed.pos_embed"] = resample_positions(table, grid, c.grid, c.n_prefix)
    new["patch_embed.proj.weight"] = resample_kernel(kernel, c.patch_size)
    if "head.weight" in new and new["head.weight"].shape[0] != c.num_classes:
        del new["head.weight"], new["head.bias"]
    return new


def _vim_positions(table: torch.Tensor) -> tuple[torch.Tensor, Pair]:
    n_patches = table.shape[1] - 1
    middle, side = n_patches // 2, math.isqrt(n_patches)
    parts = (table[:, middle : middle + 1], table[:, :middle], table[:, middle + 1 :])
    return torch.cat(parts, dim=1), (side, side)


def _trained_grid(n_patches: int, c: AumConfiguration, patch: Pair, strides: Pair) -> Pair:
    for exponent in range(6, 20):
        grid = _grid((c.spectrogram_size[0], 2**exponent), patch, strides)
        if grid[0] * grid[1] == n_patches:
            return grid
    raise EncoderError(
        f"pos_embed.pos_embed has {n_patches} patch positions: no length from 64 to 524288 frames "
        f"with patches {patch} every {strides} has so many"
    )
