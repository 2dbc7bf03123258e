"""Models around the fusion networks that answer like them: adapters, text only, audio only."""

from __future__ import annotations

import torch
from torch import nn

from mambabench.models.affect.mmml import Fusion, FusionConfig, FusionOutput, Modality, TextContext

__all__ = ["AdaptedFusion", "SceneHead", "Single", "TextOnly"]

Tensor = torch.Tensor


class Single(nn.Module):
    """A model with one output that serves as all three heads."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> FusionOutput:
        """Return the model's prediction [batch, 1] three times."""
        out = self.model(*inputs)
        return FusionOutput(out, out, out)


class SceneHead(nn.Module):
    """A linear layer, or one hidden layer of `hidden` units, on scene embeddings [batch, dim]."""

    def __init__(self, size: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(size, affine=False)
        layers: list[nn.Module] = [nn.Linear(size, 1)]
        if hidden:
            layers = [nn.Linear(size, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> FusionOutput:
        """Return the prediction [batch, 1] as all three heads."""
        if self.training and len(x) == 1:  # one clip has no spread to normalise by
            self.norm.eval()
        out = self.layers(self.norm(x))
        self.norm.train(self.training)
        return FusionOutput(out, out, out)


class AdaptedFusion(nn.Module):
    """A fusion network behind linear adapters where the stored widths are not its own."""

    def __init__(self, config: FusionConfig, text_size: int, audio_size: int) -> None:
        super().__init__()
        self.fusion = Fusion(config)
        self.text_adapter = _adapter(text_size, config.text_size)
        self.pooled_adapter = _adapter(text_size, config.text_size)
        self.audio_adapter = _adapter(audio_size, config.audio_size)

    def _adapt(self, part: Modality) -> Modality:
        return Modality(
            self.text_adapter(part.text_hidden),
            self.pooled_adapter(part.text_pooled),
            part.text_mask,
            self.audio_adapter(part.audio_hidden),
            part.n_frames,
        )

    def forward(self, *parts: Modality) -> FusionOutput:
        """Return the three predictions of the utterances (and their contexts)."""
        out: FusionOutput = self.fusion(*(self._adapt(part) for part in parts))
        return out


def _adapter(found: int, wanted: int) -> nn.Module:
    return nn.Identity() if found == wanted else nn.Linear(found, wanted)


class TextOnly(nn.Module):
    """The text-only model: with context two pooled states, without it one."""

    def __init__(self, size: int, dropout: float, *, context: bool) -> None:
        super().__init__()
        if context:
            self.head: nn.Module = TextContext(size, dropout)
        else:
            self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(size, 1))

    def forward(self, *parts: Modality) -> FusionOutput:
        """Return the prediction [batch, 1] as all three heads."""
        out = self.head(*(part.text_pooled for part in parts))
        return FusionOutput(out, out, out)
