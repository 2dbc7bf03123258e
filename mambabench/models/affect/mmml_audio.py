"""MMML's audio-only models: a CNN on mel spectrograms, a transformer on ComParE, raw audio.

Source: Wu et al. (NAACL 2024), section 4.5 and the published code's audio experiments.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from mambabench.models.affect.mmml import frame_mean
from mambabench.models.affect.mmml_backbones import AudioBackbone, BackboneSettings

__all__ = ["AudioRaw", "AudioSmile", "AudioSpec", "swapped_positions"]

Tensor = torch.Tensor


class AudioSpec(nn.Module):
    """Five strided convolutions over a two-channel log-mel spectrogram, mean, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        widths = (2, 8, 16, 32, 64, 128)
        self._levels = range(1, 6)
        for i in self._levels:
            kernel = 5 if i == 1 else 3
            conv = nn.Conv2d(widths[i - 1], widths[i], kernel, stride=2, padding=kernel // 2)
            nn.init.kaiming_normal_(conv.weight, a=0.1)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            relu, norm = nn.ReLU(), nn.BatchNorm2d(widths[i])
            # published files hold every norm twice: alone and inside the Sequential
            self.add_module(f"relu{i}", relu)
            self.add_module(f"bn{i}", norm)
            self.add_module(f"conv{i}", nn.Sequential(conv, relu, norm))
        self.classifier = nn.Sequential(nn.ReLU(), nn.Linear(widths[-1], 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return predictions [batch, 1] of spectrograms [batch, 2, mels, frames]."""
        for i in self._levels:
            x = self.get_submodule(f"conv{i}")(x)
        out: Tensor = self.classifier(x.mean((2, 3)))
        return out


def swapped_positions(length: int, size: int) -> Tensor:
    """Return the published positional code, [length, size]: its axes are swapped.

    Position s and channel e get sin(e w_i) where s is even, cos(e w_i) where it is odd, with
    i = s // 2, w_i = 10000 ** (-2 i / c) and c = `length` rounded up to an even number.
    """
    even = length + length % 2
    i = torch.arange(length) // 2
    frequency = 1.0 / (10000.0 ** (2 * i.float() / even))
    angle = frequency[:, None] * torch.arange(size).float()
    return torch.where((torch.arange(length) % 2 == 0)[:, None], angle.sin(), angle.cos())


class AudioSmile(nn.Module):
    """A transformer over frame features with a class position (ComParE low-level descriptors)."""

    def __init__(self, size: int = 130, n_layers: int = 3, heads: int = 2, ffn: int = 512) -> None:
        super().__init__()
        self.cls_emb = nn.Embedding(1, size)
        layer = nn.TransformerEncoderLayer(size, heads, ffn, batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(
            layer, n_layers, enable_nested_tensor=False
        )
        self.classifier = nn.Linear(size, 1)

    def encode(self, x: Tensor, padding: Tensor) -> Tensor:
        """Return states [batch, 1 + frames, size], the class position first."""
        cls = self.cls_emb.weight.expand(len(x), 1, -1)
        x = torch.cat((cls, x), 1)
        x = x + swapped_positions(x.shape[1], x.shape[2]).to(x)
        hidden = torch.cat((padding.new_zeros(len(x), 1), padding), 1) != 0
        out: Tensor = self.transformer_encoder(x, src_key_padding_mask=hidden)
        return out

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """Return predictions [batch, 1] of features [batch, frames, size]; padding: 1 = padded."""
        out: Tensor = self.classifier(self.encode(x, padding)[:, 0])
        return out


class AudioRaw(nn.Module):
    """An audio backbone, the mean of its frames and one linear layer.

    The published data2vec model ignores the samples' mask and averages padded frames as well; the
    HuBERT model passes it.
    """

    def __init__(self, config: BackboneSettings) -> None:
        super().__init__()
        self._masked = config["model_type"] == "hubert"
        name = "hubert_model" if self._masked else "data2vec_model"
        self.add_module(name, AudioBackbone(config))
        self._name = name
        self.classifier = nn.Linear(int(config["hidden_size"]), 1)
        bound = 1 / math.sqrt(int(config["hidden_size"]))
        nn.init.uniform_(self.classifier.weight, -bound, bound)

    @property
    def backbone(self) -> AudioBackbone:
        """The audio model."""
        module = self.get_submodule(self._name)
        assert isinstance(module, AudioBackbone)
        return module

    def features(self, audio: Tensor, mask: Tensor) -> Tensor:
        """Return the averaged frames [batch, size] of samples [batch, samples]."""
        hidden, n_frames = self.backbone(audio, mask if self._masked else None)
        return frame_mean(hidden, n_frames)

    def forward(self, audio: Tensor, mask: Tensor) -> Tensor:
        """Return predictions [batch, 1]."""
        out: Tensor = self.classifier(self.features(audio, mask))
        return out
