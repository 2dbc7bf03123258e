"""MMML's fusion networks: concatenation (cc) and cross-modal encoders (cme) over text and audio.

The networks take what the backbones give (token states, pooled text, audio frame states and the
number of valid frames) and return three predictions: T from text, A from audio, M from both. Keys
of the state dict are those of the published models without their backbones, unused modules
included.

Source: Wu et al., "Multimodal Multi-loss Fusion Network for Sentiment Analysis" (NAACL 2024),
section 3.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import nn

from mambabench.errors import ProtocolError

__all__ = [
    "CmeLayer",
    "Fusion",
    "FusionConfig",
    "FusionOutput",
    "Modality",
    "TextContext",
    "frame_mask",
    "frame_mean",
    "frame_mean_features",
]

Tensor = torch.Tensor


@dataclass(frozen=True)
class FusionConfig:
    """Which fusion network, and its widths; the defaults are those published for CMU-MOSI."""

    fusion: Literal["cc", "cme"] = "cme"
    version: Literal["v1", "v2", "v3"] = "v1"  # of cme without context
    context: bool = False
    language: Literal["en", "ch"] = "en"  # only decides about modules that are never used
    text_size: int = 768
    audio_size: int = 768
    n_layers: int = 5  # of cme
    heads: int = 12
    ffn: int = 3072
    middle: int = 512  # last hidden layer of the fused output
    context_middle: int = 768  # the hidden layer of the fused output of cme with context
    mixed_ffn: int = 2048
    dropout: float = 0.3
    mixed_dropout: float = 0.1  # of the transformer that v3 adds
    self_attention: bool = True  # in every layer of cme
    feed_forward: bool = True

    def __post_init__(self) -> None:
        if self.fusion == "cme":
            if self.text_size != self.audio_size:
                raise ProtocolError(
                    f"cme needs text and audio of one width, not {self.text_size} and "
                    f"{self.audio_size}; an adapter layer brings them to one"
                )
            if self.text_size % self.heads:
                raise ProtocolError(f"width {self.text_size} is no multiple of {self.heads} heads")
        if self.context and self.version != "v1":
            raise ProtocolError(f"there is no {self.version} with context; use version 'v1'")


class Modality(NamedTuple):
    """What a fusion network reads of one utterance, or of its context."""

    text_hidden: Tensor  # [batch, tokens, text_size]
    text_pooled: Tensor  # [batch, text_size]
    text_mask: Tensor  # [batch, tokens], 1 = token
    audio_hidden: Tensor  # [batch, frames, audio_size]
    n_frames: Tensor  # [batch] valid audio frames


class FusionOutput(NamedTuple):
    """Predictions of the multimodal, the text and the audio head, [batch, 1] each."""

    M: Tensor
    T: Tensor
    A: Tensor


def frame_mask(n_frames: Tensor, length: int) -> Tensor:
    """Return [batch, length] float32: 1 for the first n_frames of every clip."""
    return (torch.arange(length, device=n_frames.device) < n_frames[:, None]).float()


def frame_mean(hidden: Tensor, n_frames: Tensor) -> Tensor:
    """Return the mean of the first `n_frames` frames, [batch, dim]."""
    return frame_mean_features(hidden, frame_mask(n_frames, hidden.shape[1]))


def frame_mean_features(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over frames where `mask` is 1."""
    return (hidden * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)


class _Attend(nn.Module):
    """Multi-head attention weights and values, with the projections' published names."""

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size)
        self.dropout = nn.Dropout(dropout)

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        query, key = self._split(self.query(x)), self._split(self.key(memory))
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        scores = scores.masked_fill(mask[:, None, None] == 0, -math.inf)
        weights = self.dropout(scores.softmax(-1))
        out: Tensor = weights @ self._split(self.value(memory))
        return out.transpose(1, 2).flatten(2)


class _Output(nn.Module):
    """layer_norm(dropout(dense(hidden)) + residual)."""

    def __init__(self, n_in: int, n_out: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(n_in, n_out)
        self.LayerNorm = nn.LayerNorm(n_out, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        out: Tensor = self.LayerNorm(self.dropout(self.dense(hidden)) + residual)
        return out


class _CrossAttention(nn.Module):
    """Attention of `x` over `memory` with residual; its inner module is named `inner`."""

    def __init__(self, size: int, heads: int, dropout: float, inner: str) -> None:
        super().__init__()
        self._inner = inner
        self.add_module(inner, _Attend(size, heads, dropout))
        self.output = _Output(size, size, dropout)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        out: Tensor = self.output(self.get_submodule(self._inner)(x, memory, mask), x)
        return out


class _Dense(nn.Module):
    """A linear layer and ReLU, the linear one under the key `dense`."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.dense = nn.Linear(n_in, n_out)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.dense(x))


class CmeLayer(nn.Module):
    """One layer of the cross-modal encoder: cross-attention, self-attention, feed-forward.

    Both cross-attentions read the layer's inputs, not each other's result. The last two steps can
    be left out (the paper's Table 8).
    """

    def __init__(
        self,
        size: int,
        heads: int,
        ffn: int,
        dropout: float,
        *,
        self_attention: bool = True,
        feed_forward: bool = True,
    ) -> None:
        super().__init__()
        self._steps = (self_attention, feed_forward)
        self.audio_attention = _CrossAttention(size, heads, dropout, "att")
        self.lang_attention = _CrossAttention(size, heads, dropout, "att")
        if self_attention:
            self.lang_self_att = _CrossAttention(size, heads, dropout, "self")
            self.audio_self_att = _CrossAttention(size, heads, dropout, "self")
        if feed_forward:
            self.lang_inter = _Dense(size, ffn)
            self.lang_output = _Output(ffn, size, dropout)
            self.audio_inter = _Dense(size, ffn)
            self.audio_output = _Output(ffn, size, dropout)

    def forward(
        self, text: Tensor, text_mask: Tensor, audio: Tensor, audio_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return new (text, audio), [batch, positions, size]; masks [batch, positions]."""
        text_new = self.lang_attention(text, audio, audio_mask)
        audio_new = self.audio_attention(audio, text, text_mask)
        self_attention, feed_forward = self._steps
        if self_attention:
            text_new = self.lang_self_att(text_new, text_new, text_mask)
            audio_new = self.audio_self_att(audio_new, audio_new, audio_mask)
        if feed_forward:
            text_new = self.lang_output(self.lang_inter(text_new), text_new)
            audio_new = self.audio_output(self.audio_inter(audio_new), audio_new)
        return text_new, audio_new


def _mlp(widths: tuple[int, ...], dropout: float) -> nn.Sequential:
    """Dropout, then linear layers with ReLU between: the published indices 1, 3, 5, 7."""
    layers: list[nn.Module] = [nn.Dropout(dropout)]
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _prepend(embedding: nn.Embedding, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Put a learned position before the sequence, always visible."""
    cls = embedding.weight.expand(x.shape[0], 1, -1)
    return torch.cat((cls, x), 1), torch.cat((mask.new_ones(len(mask), 1), mask), 1)


class Fusion(nn.Module):
    """A fusion network; see `FusionConfig` for the variants and the module's docstring."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.config = config
        text, audio, p = config.text_size, config.audio_size, config.dropout
        times = 2 if config.context else 1
        self.T_output_layers = _mlp((times * text, 1), p)
        self.A_output_layers = _mlp((times * audio, 1), p)
        self.fused_output_layers = _mlp(_fused_widths(config), p)
        if config.fusion == "cc":
            return
        self.text_cls_emb = nn.Embedding(1, text)
        self.audio_cls_emb = nn.Embedding(1, text)
        self.CME_layers = nn.ModuleList(
            CmeLayer(
                text,
                config.heads,
                config.ffn,
                p,
                self_attention=config.self_attention,
                feed_forward=config.feed_forward,
            )
            for _ in range(config.n_layers)
        )
        if not config.context:
            self._add_mixers()

    def _add_mixers(self) -> None:
        """Add what v2 and v3 use; every version's file holds all of it."""
        config = self.config
        size = config.text_size
        wide = config.version == "v3" or config.language == "ch"
        mixed = 2 * size if wide else size
        n_layers = 2 if config.language == "ch" else 3
        self.text_mixed_cls_emb = nn.Embedding(1, mixed)
        self.audio_mixed_cls_emb = nn.Embedding(1, mixed)
        for name in ("text", "audio"):
            layer = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(2 * size, size), nn.ReLU())
            self.add_module(f"{name}_mixed_layer", layer)
            block = nn.TransformerEncoderLayer(
                mixed,
                config.heads,
                config.mixed_ffn,
                config.mixed_dropout,
                batch_first=True,
            )
            encoder = nn.TransformerEncoder(block, n_layers, enable_nested_tensor=False)
            self.add_module(f"{name}_encoder", encoder)

    def forward(self, now: Modality, context: Modality | None = None) -> FusionOutput:
        """Return the three predictions; `context` is needed by the context variants only."""
        if self.config.context != (context is not None):
            need = "needs" if self.config.context else "takes no"
            raise ProtocolError(f"this fusion network {need} context")
        parts = (now,) if context is None else (now, context)
        text = torch.cat([part.text_pooled for part in parts], -1)
        audio = torch.cat([frame_mean(part.audio_hidden, part.n_frames) for part in parts], -1)
        if self.config.fusion == "cc":
            fused = torch.cat((text, audio), -1)
        elif context is None:
            fused = self._fuse(now, text, audio)
        else:
            heads = [self._cross(part) for part in parts]
            fused = torch.cat([t[:, 0] for t, _, _ in heads] + [a[:, 0] for _, a, _ in heads], -1)
        return FusionOutput(
            M=self.fused_output_layers(fused),
            T=self.T_output_layers(text),
            A=self.A_output_layers(audio),
        )

    def _cross(self, part: Modality) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Run the cross-modal encoder: (text, audio, their masks), class position first."""
        valid = frame_mask(part.n_frames, part.audio_hidden.shape[1])
        text, text_mask = _prepend(self.text_cls_emb, part.text_hidden, part.text_mask.float())
        audio, audio_mask = _prepend(self.audio_cls_emb, part.audio_hidden, valid)
        for layer in self.CME_layers:
            text, audio = layer(text, text_mask, audio, audio_mask)
        return text, audio, (text_mask, audio_mask)

    def _fuse(self, now: Modality, text_feature: Tensor, audio_feature: Tensor) -> Tensor:
        text, audio, masks = self._cross(now)
        if self.config.version == "v1":
            return torch.cat((text[:, 0], audio[:, 0]), -1)
        if self.config.version == "v2":
            mixed_text = self.get_submodule("text_mixed_layer")(
                torch.cat((text_feature, text[:, 0]), -1)
            )
            mixed_audio = self.get_submodule("audio_mixed_layer")(
                torch.cat((audio_feature, audio[:, 0]), -1)
            )
            return torch.cat((mixed_text, mixed_audio), -1)
        sides = (
            ("text", now.text_hidden, text, masks[0]),
            ("audio", now.audio_hidden, audio, masks[1]),
        )
        heads = []
        for name, hidden, crossed, mask in sides:
            both = torch.cat((hidden, crossed[:, 1:]), -1)
            cls = self.get_submodule(f"{name}_mixed_cls_emb")
            assert isinstance(cls, nn.Embedding)
            both, mask = _prepend(cls, both, mask[:, 1:])
            encoder = self.get_submodule(f"{name}_encoder")
            heads.append(encoder(both, src_key_padding_mask=mask == 0)[:, 0])
        return torch.cat(heads, -1)


def _fused_widths(config: FusionConfig) -> tuple[int, ...]:
    text, audio, middle = config.text_size, config.audio_size, config.middle
    if config.fusion == "cc":
        if config.context:
            return (2 * text + 2 * audio, 2 * text, text, 1)
        return (text + audio, text, text, middle, 1)
    if config.context:
        return (4 * text, config.context_middle, 1)
    return ((4 if config.version == "v3" else 2) * text, text, middle, 1)


class TextContext(nn.Module):
    """The text-only model with context: one linear layer on two pooled states."""

    def __init__(self, text_size: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * text_size, 1)

    def forward(self, pooled: Tensor, context_pooled: Tensor) -> Tensor:
        """Return predictions [batch, 1] of two pooled text states [batch, text_size]."""
        out: Tensor = self.classifier(self.dropout(torch.cat((pooled, context_pooled), -1)))
        return out
