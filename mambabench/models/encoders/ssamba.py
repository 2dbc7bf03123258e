"""SSAMBA on spectrograms: backbone, pretraining with both heads, fine-tuning, s3prl's expert.

Keys, shapes and their order are those of the published checkpoints (under DataParallel's prefix
there); audio comes in through `mambabench.models.encoders.fbank_runtime`.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from mambabench.models.blocks.block import (
    Block,
    DropPath,
    drop_rates,
    make_norm,
    run_pairs,
    run_sequence,
)
from mambabench.models.blocks.mixer import MixerConfiguration
from mambabench.models.blocks.patch import PatchEmbedding

__all__ = [
    "ContrastiveLoss",
    "GenerativeLoss",
    "SsambaBackbone",
    "SsambaClassifier",
    "SsambaConfiguration",
    "SsambaPretraining",
    "adapt_positions",
    "classifier_backbone",
    "cluster_mask",
    "frame_mask",
    "joint_loss",
]

POOLINGS = ("ft_avgtok", "ft_cls", "ft_avgtok_1sec", "time")


@dataclass(frozen=True)
class SsambaConfiguration:
    """Architecture of SSAMBA; the defaults are what every published model shares."""

    embed_dim: int
    depth: int = 24
    spectrogram_size: tuple[int, int] = (128, 1024)  # (bands, frames)
    patch_size: tuple[int, int] = (16, 16)
    strides: tuple[int, int] = (16, 16)
    num_classes: int = 1000  # of the backbone's head, which nothing uses
    directions: str = "v2"
    paired: bool = True
    rms_norm: bool = False
    norm_epsilon: float = 1e-5
    divide_out: bool = True
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    drop_path: float = 0.0  # of the last block's output in training; trained with 0.1

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along frequency and time."""
        pairs = zip(self.spectrogram_size, self.patch_size, self.strides, strict=True)
        rows, columns = ((n - p) // s + 1 for n, p, s in pairs)
        return rows, columns


class SsambaBackbone(nn.Module):
    """The bidirectional Mamba: normalised fbanks [n, frames, bands] -> tokens, class token first.

    Patch tokens are frequency-major (band * columns + column). The final norm is applied twice,
    as the authors' wrapper does on top of the backbone's own.
    """

    def __init__(self, configuration: SsambaConfiguration) -> None:
        super().__init__()
        c = self.configuration = configuration
        self.cls_token = nn.Parameter(torch.empty(1, 1, c.embed_dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + c.grid[0] * c.grid[1], c.embed_dim))
        self.patch_embed = PatchEmbedding(c.embed_dim, c.patch_size, c.strides)
        self.head = nn.Linear(c.embed_dim, c.num_classes)
        mixer = MixerConfiguration(
            c.embed_dim, c.d_state, c.d_conv, c.expand, c.directions, c.divide_out
        )
        self.layers = nn.ModuleList(
            Block(mixer, c.norm_epsilon, c.rms_norm, rate)
            for rate in drop_rates(c.drop_path, c.depth)
        )
        self.drop_path = DropPath(c.drop_path)
        self.norm_f = make_norm(c.embed_dim, c.norm_epsilon, c.rms_norm)

    @property
    def n_states(self) -> int:
        """Hidden states: the first input, the stream after each step, the last one normalised."""
        return self.configuration.depth // (2 if self.configuration.paired else 1) + 1

    def patch_grid(
        self, fbank: torch.Tensor, strides: tuple[int, int] | None = None
    ) -> torch.Tensor:
        """Embed patches as a grid [n, embed_dim, bands, columns]."""
        projection = self.patch_embed.proj
        return F.conv2d(
            fbank.transpose(1, 2)[:, None],
            projection.weight,
            projection.bias,
            stride=strides or self.configuration.strides,
        )

    def positions(self, grid: tuple[int, int], crop: bool = True) -> torch.Tensor:
        """Return the position table for a patch grid [1, 1 + patches, embed_dim].

        `crop` is there for AuM's sake: SSAMBA's own rule always crops what is longer.
        """
        return adapt_positions(self.pos_embed, self.configuration.grid, grid)

    def arrange(self, patches: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Turn patches [n, n_patches, embed_dim] (or a grid of them) into the layers' input."""
        if patches.ndim == 4:
            patches = patches.flatten(2).transpose(1, 2)
        first = self.cls_token.expand(patches.shape[0], -1, -1)
        return torch.cat((first, patches), dim=1) + positions

    def layer_states(self, tokens: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (hidden, residual) after each pair of layers (each layer if not paired)."""
        run = run_pairs if self.configuration.paired else run_sequence
        return run(self.layers, tokens)

    def finish(self, stream: torch.Tensor) -> torch.Tensor:
        """Return the twice normalised output of the last stream."""
        normalised: torch.Tensor = self.norm_f(self.norm_f(stream))
        return normalised

    def encode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Run layers and final norms over all tokens."""
        hidden, residual = deque(self.layer_states(tokens), maxlen=1)[0]
        return self.finish(self.drop_path(hidden) + residual)

    def class_vector(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the class token [n, dim] of final tokens."""
        return tokens[:, 0]

    def without_class(self, tokens: torch.Tensor) -> torch.Tensor:
        """Drop the class token."""
        return tokens[:, 1:]


def adapt_positions(
    table: torch.Tensor, old: tuple[int, int], new: tuple[int, int]
) -> torch.Tensor:
    """Fit a position table [1, 1 + patches, dim] to another grid (bands, columns), as the authors.

    Along each axis, time first: the centre is cut out if the new grid is smaller, otherwise it is
    interpolated bilinearly. The class row stays. A table that is not cut in time passes through 8
    bands, whatever it had: the authors write that number out, and it is their models' own.
    """
    if old == new:
        return table
    prefix = table[:, :1]
    image = torch.unflatten(table[:, 1:], 1, old).permute(0, 3, 1, 2)  # [1, dim, bands, columns]
    bands, columns = new
    if columns < old[1]:
        start = old[1] // 2 - columns // 2
        image = image[:, :, :, start : start + columns]
    elif image.shape[2:] != (8, columns):
        image = F.interpolate(image, size=(8, columns), mode="bilinear")
    if bands < old[0]:
        start = old[0] // 2 - bands // 2
        image = image[:, :, start : start + bands]
    elif image.shape[2:] != (bands, columns):
        image = F.interpolate(image, size=(bands, columns), mode="bilinear")
    return torch.cat((prefix, image.flatten(2).transpose(1, 2)), dim=1)


class ContrastiveLoss(NamedTuple):
    """Masked patch classification: which of the masked patches is this one?"""

    nce: torch.Tensor  # scalar
    accuracy: torch.Tensor  # scalar; per patch over predictions, as upstream


class GenerativeLoss(NamedTuple):
    """Masked patch generation."""

    mse: torch.Tensor  # scalar


class SsambaPretraining(nn.Module):
    """The model that the published checkpoints hold: backbone, mask token and two heads."""

    def __init__(self, configuration: SsambaConfiguration) -> None:
        super().__init__()
        c = configuration
        # the pretraining spectrogram's size, whole numbers in the published state dicts
        self.p_input_fdim = nn.Parameter(torch.tensor(c.spectrogram_size[0]), requires_grad=False)
        self.p_input_tdim = nn.Parameter(torch.tensor(c.spectrogram_size[1]), requires_grad=False)
        self.mask_embed = nn.Parameter(torch.empty(1, 1, c.embed_dim))
        self.v = SsambaBackbone(c)
        n_pixels = c.patch_size[0] * c.patch_size[1]
        for name in ("cpredlayer", "gpredlayer"):
            hidden = nn.Linear(c.embed_dim, c.embed_dim)
            self.add_module(
                name, nn.Sequential(hidden, nn.ReLU(), nn.Linear(c.embed_dim, n_pixels))
            )

    @property
    def initial_rules(self) -> dict[str, str]:
        """Name what the authors initialise otherwise than torch (`models.blocks.initialise`)."""
        return {"mask_embed": "token", "v.head.weight": "small", "v.head.bias": "zero"}

    @torch.no_grad()
    def fill_fixed(self) -> None:
        """Write the spectrogram's size into the two whole-number entries."""
        bands, frames = self.v.configuration.spectrogram_size
        self.p_input_fdim.fill_(bands)
        self.p_input_tdim.fill_(frames)

    def raw_patches(self, fbank: torch.Tensor) -> torch.Tensor:
        """Cut the spectrogram itself into patches [n, n_patches, pixels], tokens' order."""
        c = self.v.configuration
        image = fbank.transpose(1, 2)[:, None]
        return F.unfold(image, c.patch_size, stride=c.strides).transpose(1, 2)

    def masked_tokens(self, fbank: torch.Tensor, mask_ids: torch.Tensor) -> torch.Tensor:
        """Return the layers' input with the patches `mask_ids` [n, n_masked] replaced.

        The mask token takes the place of the patch before its position is added.
        """
        patches = self.v.patch_grid(fbank).flatten(2).transpose(1, 2)
        mask = torch.zeros(patches.shape[:2], dtype=torch.bool, device=patches.device)
        mask = mask.scatter(1, mask_ids, True)
        patches = torch.where(mask[..., None], self.mask_embed.to(patches.dtype), patches)
        return self.v.arrange(patches, self.v.pos_embed)

    def _predict(
        self, head: str, fbank: torch.Tensor, mask_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (prediction, raw patch), both [n, n_masked, pixels]."""
        tokens = self.v.encode(self.masked_tokens(fbank, mask_ids))[:, 1:]
        at = mask_ids[..., None]
        masked = tokens.gather(1, at.expand(-1, -1, tokens.shape[2]))
        raw = self.raw_patches(fbank)
        predicted: torch.Tensor = self.get_submodule(head)(masked)
        return predicted, raw.gather(1, at.expand(-1, -1, raw.shape[2]))

    def contrastive(self, fbank: torch.Tensor, mask_ids: torch.Tensor) -> ContrastiveLoss:
        """Match each masked patch with its prediction among those of its clip (InfoNCE)."""
        predicted, raw = self._predict("cpredlayer", fbank, mask_ids)
        scores = raw @ predicted.transpose(1, 2)  # [n, raw, predicted]
        own = scores.log_softmax(dim=-1).diagonal(dim1=1, dim2=2)
        best = scores.softmax(dim=-1).argmax(dim=1)  # the authors' two different axes
        right = best == torch.arange(best.shape[1], device=best.device)
        return ContrastiveLoss(-own.mean(), right.to(scores.dtype).mean())

    def generative(self, fbank: torch.Tensor, mask_ids: torch.Tensor) -> GenerativeLoss:
        """Return the squared error of the predicted pixels of the masked patches."""
        predicted, raw = self._predict("gpredlayer", fbank, mask_ids)
        return GenerativeLoss((predicted - raw).square().mean())


def joint_loss(contrastive: ContrastiveLoss, generative: GenerativeLoss) -> torch.Tensor:
    """Return the pretraining objective; its two parts come from forwards with their own masks."""
    return contrastive.nce + 10 * generative.mse


def cluster_mask(
    n_patches: int, n_masked: int, columns: int, generator: random.Random
) -> list[int]:
    """Return the patches to mask, as the authors draw them.

    Squares of 3 to 5 patches from random corners, until there are more than `n_masked`; squares
    wrap around rows, patch 0 is never masked, and what is too many falls off the end of the set.
    """
    side = generator.randrange(3) + 3
    drawn: list[int] = []
    while len(set(drawn)) <= n_masked:
        start = generator.randrange(n_patches)
        square = [start + columns * i + j for i in range(side) for j in range(side)]
        drawn += [patch for patch in square if 0 < patch < n_patches]
    # not sorted(): the order of a set that is built from this list decides what falls off
    return list(set(drawn))[:n_masked]


def frame_mask(n_patches: int, n_masked: int, generator: random.Random) -> list[int]:
    """Return the patches to mask where a patch is as high as the spectrogram: any of them."""
    return generator.sample(range(n_patches), n_masked)


def classifier_backbone(
    pretrained: SsambaConfiguration,
    state: Mapping[str, torch.Tensor],
    n_frames: int,
    strides: tuple[int, int],
) -> tuple[SsambaConfiguration, dict[str, torch.Tensor]]:
    """Return (configuration, state dict) of a backbone for clips of `n_frames` frames.

    `state` is a pretraining checkpoint's part below "v.": the kernel stays, positions are adapted.
    Source: the authors' fine-tuning constructor.
    """
    size = (pretrained.spectrogram_size[0], n_frames)
    new = replace(pretrained, spectrogram_size=size, strides=strides)
    table = adapt_positions(state["pos_embed"], pretrained.grid, new.grid)
    return new, {**state, "pos_embed": table}


class SsambaClassifier(nn.Module):
    """SSAMBA for fine-tuning: the backbone on another grid, pooling, LayerNorm and a linear layer.

    `strides` and the spectrogram's length may differ from pretraining; positions are adapted.
    """

    def __init__(
        self,
        backbone: SsambaBackbone,
        n_classes: int,
        strides: tuple[int, int] = (10, 10),
        pooling: str = "ft_avgtok",
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {POOLINGS}, not {pooling!r}")
        dim = backbone.configuration.embed_dim
        self.v = backbone
        self.strides, self.pooling = strides, pooling
        self.mlp_head = nn.Sequential(nn.LayerNorm(dim, eps=1e-5), nn.Linear(dim, n_classes))

    @property
    def initial_rules(self) -> dict[str, str]:
        """Name what the authors initialise otherwise than torch (`models.blocks.initialise`)."""
        return {"v.head.weight": "small", "v.head.bias": "zero"}

    def tokens_in(self, fbank: torch.Tensor) -> torch.Tensor:
        """Return the layers' input."""
        patches = self.v.patch_grid(fbank, self.strides)
        return self.v.arrange(patches, self.v.positions((patches.shape[2], patches.shape[3])))

    def pool(self, tokens: torch.Tensor) -> torch.Tensor:
        """Pool final tokens into the head's input.

        ft_avgtok: mean of the patches [n, dim]; ft_cls: the class token; ft_avgtok_1sec: 60 means
        of equally long runs of tokens [n, 60, dim], the class token in the first and, as the
        tokens are frequency-major, not really seconds: kept as the authors have it. time: 60 means
        over the patches of each sixtieth of the clip [n, 60, dim].
        """
        if self.pooling == "ft_cls":
            return tokens[:, 0]
        if self.pooling == "ft_avgtok":
            return tokens[:, 1:].mean(dim=1)
        if self.pooling == "time":
            c = self.v.configuration
            bands = (c.spectrogram_size[0] - c.patch_size[0]) // self.strides[0] + 1
            columns = torch.unflatten(tokens[:, 1:], 1, (bands, -1)).mean(dim=1)
            n = columns.shape[1]
            spans = [(k * n // 60, max((k + 1) * n // 60, k * n // 60 + 1)) for k in range(60)]
            return torch.stack([columns[:, a:b].mean(dim=1) for a, b in spans], dim=1)
        length = tokens.shape[1] // 60
        return torch.unflatten(tokens[:, : 60 * length], 1, (60, length)).mean(dim=2)

    def forward(self, fbank: torch.Tensor) -> torch.Tensor:
        """Return logits [n, n_classes], or [n, 60, n_classes] with ft_avgtok_1sec."""
        logits: torch.Tensor = self.mlp_head(self.pool(self.v.encode(self.tokens_in(fbank))))
        return logits
