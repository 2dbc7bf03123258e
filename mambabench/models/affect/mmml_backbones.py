"""The text and audio backbones of MMML, written out: RoBERTa and BERT, data2vec-audio and HuBERT.

They read the configuration and the weights of a local Hugging Face directory and give what the
fusion networks need, with the frame masks of the published code, so that no version of transformers
has to be matched. Keys of the state dict are transformers'.

Sources: Liu et al. 2019 (RoBERTa), Devlin et al. 2019 (BERT), Baevski et al. 2022 (data2vec),
Hsu et al. 2021 (HuBERT); layer order and mask arithmetic as in transformers 4.34.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mambabench.errors import EncoderError, nearest_names

__all__ = ["AudioBackbone", "TextBackbone", "build_backbone", "conv_length", "renamed_weight_norm"]

Tensor = torch.Tensor
BackboneSettings = Mapping[str, Any]  # a Hugging Face config.json, read as it is

_TEXT_TYPES = ("roberta", "bert")
_AUDIO_TYPES = ("data2vec-audio", "hubert")


def build_backbone(config: BackboneSettings) -> TextBackbone | AudioBackbone:
    """Return the backbone that a Hugging Face `config` describes, with random weights.

    Raises EncoderError for an architecture that is not among the supported ones.
    """
    kind = str(config.get("model_type"))
    if kind in _TEXT_TYPES:
        return TextBackbone(config)
    if kind in _AUDIO_TYPES:
        return AudioBackbone(config)
    known = (*_TEXT_TYPES, *_AUDIO_TYPES)
    raise EncoderError(
        f"config.json: model_type {kind!r} is not supported, only {', '.join(known)}"
        f"{nearest_names(kind, known)}"
    )


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, p: float) -> Tensor:
    scores = query @ key.transpose(-1, -2)
    weights = (scores if bias is None else scores + bias).softmax(-1)
    return F.dropout(weights, p, p > 0) @ value


def _key_bias(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Return the additive mask over keys, [batch, 1, 1, keys]."""
    if mask is None:
        return None
    return (1 - mask[:, None, None].to(dtype)) * torch.finfo(dtype).min


class _SelfAttention(nn.Module):
    """Multi-head self-attention under BERT's names or those of the audio models."""

    def __init__(self, config: BackboneSettings, names: tuple[str, str, str]) -> None:
        super().__init__()
        size = config["hidden_size"]
        self._heads = int(config["num_attention_heads"])
        self._names = names
        self._p = float(
            config.get("attention_probs_dropout_prob", config.get("attention_dropout", 0.0))
        )
        for name in names:
            self.add_module(name, nn.Linear(size, size))

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        query, key, value = (
            self.get_submodule(name)(x).unflatten(-1, (self._heads, -1)).transpose(1, 2)
            for name in self._names
        )
        query = query / math.sqrt(query.shape[-1])
        p = self._p if self.training else 0.0
        return _attend(query, key, value, bias, p).transpose(1, 2).flatten(2)


class _Residual(nn.Module):
    """BERT's output layer: layer_norm(dropout(dense(hidden)) + residual)."""

    def __init__(self, n_in: int, config: BackboneSettings) -> None:
        super().__init__()
        self.dense = nn.Linear(n_in, config["hidden_size"])
        self.LayerNorm = nn.LayerNorm(config["hidden_size"], eps=config["layer_norm_eps"])
        self.dropout = nn.Dropout(config["hidden_dropout_prob"])

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        out: Tensor = self.LayerNorm(self.dropout(self.dense(hidden)) + residual)
        return out


class _TextLayer(nn.Module):
    def __init__(self, config: BackboneSettings) -> None:
        super().__init__()
        size, wide = config["hidden_size"], config["intermediate_size"]
        self.attention = nn.Module()
        self.attention.self = _SelfAttention(config, ("query", "key", "value"))
        self.attention.output = _Residual(size, config)
        self.intermediate = nn.Module()
        self.intermediate.dense = nn.Linear(size, wide)
        self.output = _Residual(wide, config)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        attention = self.attention.get_submodule("self")(x, bias)
        x = self.attention.get_submodule("output")(attention, x)
        wide = F.gelu(self.intermediate.get_submodule("dense")(x))
        out: Tensor = self.output(wide, x)
        return out


class TextBackbone(nn.Module):
    """RoBERTa or BERT with its pooling layer."""

    def __init__(self, config: BackboneSettings) -> None:
        super().__init__()
        _only_gelu(config)
        size = int(config["hidden_size"])
        self.hidden_size = size
        self._roberta = config["model_type"] == "roberta"
        self._pad = int(config.get("pad_token_id") or 0)
        padding = self._pad if self._roberta else 0
        self.embeddings = nn.Module()
        self.embeddings.word_embeddings = nn.Embedding(config["vocab_size"], size, padding)
        self.embeddings.position_embeddings = nn.Embedding(config["max_position_embeddings"], size)
        self.embeddings.token_type_embeddings = nn.Embedding(config["type_vocab_size"], size)
        self.embeddings.LayerNorm = nn.LayerNorm(size, eps=config["layer_norm_eps"])
        self.dropout = nn.Dropout(config["hidden_dropout_prob"])
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(
            _TextLayer(config) for _ in range(config["num_hidden_layers"])
        )
        self.pooler = nn.Module()
        self.pooler.dense = nn.Linear(size, size)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return (states [batch, tokens, size], pooled [batch, size]) of int64 token ids."""
        if self._roberta:  # positions start after the padding id and skip padding
            real = (ids != self._pad).long()
            positions = real.cumsum(1) * real + self._pad
        else:
            positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        part = self.embeddings.get_submodule
        x = part("word_embeddings")(ids) + part("position_embeddings")(positions)
        x = part("LayerNorm")(x + part("token_type_embeddings")(torch.zeros_like(ids)))
        x = self.dropout(x)
        bias = _key_bias(mask, x.dtype)
        layers = self.encoder.layer
        assert isinstance(layers, nn.ModuleList)
        for layer in layers:
            x = layer(x, bias)
        return x, torch.tanh(self.pooler.get_submodule("dense")(x[:, 0]))


def conv_length(n: Tensor, config: BackboneSettings) -> Tensor:
    """Return how many frames the convolutions make of `n` samples; 0 or less where too few."""
    for kernel, stride in zip(config["conv_kernel"], config["conv_stride"], strict=True):
        n = torch.div(n - kernel, stride, rounding_mode="floor") + 1
    return n


class _ConvLayer(nn.Module):
    """One convolution of the feature extractor, with the norm that its place asks for."""

    def __init__(self, config: BackboneSettings, index: int) -> None:
        super().__init__()
        widths = (1, *config["conv_dim"])
        n_out = widths[index + 1]
        self.conv = nn.Conv1d(
            widths[index],
            n_out,
            config["conv_kernel"][index],
            config["conv_stride"][index],
            bias=config["conv_bias"],
        )
        grouped = config.get("feat_extract_norm", "layer") == "group"
        self._norm = "none" if grouped and index else "group" if grouped else "layer"
        if self._norm == "group":
            self.layer_norm: nn.Module = nn.GroupNorm(n_out, n_out)
        elif self._norm == "layer":
            self.layer_norm = nn.LayerNorm(n_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self._norm == "group":
            x = self.layer_norm(x)
        elif self._norm == "layer":
            x = self.layer_norm(x.transpose(1, 2)).transpose(1, 2)
        return F.gelu(x)


def _same(x: Tensor, kernel: int) -> Tensor:
    return x[..., :-1] if kernel % 2 == 0 else x


class _ConvolutionalPositions(nn.Module):
    """Convolutional positions: a stack with norms (data2vec), or one weight-normed layer."""

    def __init__(self, config: BackboneSettings) -> None:
        super().__init__()
        size, groups = config["hidden_size"], config["num_conv_pos_embedding_groups"]
        self._stacked = config["model_type"] == "data2vec-audio"
        count = config["num_conv_pos_embeddings"]
        self._kernel = int(config["conv_pos_kernel_size"] if self._stacked else count)

        def convolution() -> nn.Conv1d:
            return nn.Conv1d(size, size, self._kernel, padding=self._kernel // 2, groups=groups)

        if self._stacked:
            self.layers = nn.ModuleList()
            for _ in range(count):
                layer = nn.Module()
                layer.conv = convolution()
                self.layers.append(layer)
        else:
            self.conv = nn.utils.parametrizations.weight_norm(convolution(), dim=2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        if not self._stacked:
            return F.gelu(_same(self.conv(x), self._kernel)).transpose(1, 2)
        for layer in self.layers:
            x = _same(layer.get_submodule("conv")(x), self._kernel).transpose(1, 2)
            x = F.gelu(F.layer_norm(x, x.shape[-1:])).transpose(1, 2)
        return x.transpose(1, 2)


class _AudioLayer(nn.Module):
    """Post-norm transformer layer of the audio models."""

    def __init__(self, config: BackboneSettings) -> None:
        super().__init__()
        size, wide = config["hidden_size"], config["intermediate_size"]
        self.attention = _SelfAttention(config, ("q_proj", "k_proj", "v_proj"))
        self.attention.out_proj = nn.Linear(size, size)
        self.layer_norm = nn.LayerNorm(size, eps=config["layer_norm_eps"])
        self.feed_forward = nn.Module()
        self.feed_forward.intermediate_dense = nn.Linear(size, wide)
        self.feed_forward.output_dense = nn.Linear(wide, size)
        self.final_layer_norm = nn.LayerNorm(size, eps=config["layer_norm_eps"])
        self.dropout = nn.Dropout(config["hidden_dropout"])
        self.inner_dropout = nn.Dropout(config["activation_dropout"])

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        attention = self.attention.get_submodule("out_proj")(self.attention(x, bias))
        x = self.layer_norm(x + self.dropout(attention))
        wide = F.gelu(self.feed_forward.get_submodule("intermediate_dense")(x))
        narrow = self.feed_forward.get_submodule("output_dense")(self.inner_dropout(wide))
        out: Tensor = self.final_layer_norm(x + self.dropout(narrow))
        return out


class AudioBackbone(nn.Module):
    """data2vec-audio or HuBERT with post-norm layers, on 16 kHz samples."""

    def __init__(self, config: BackboneSettings) -> None:
        super().__init__()
        _only_gelu(config)
        if config.get("do_stable_layer_norm"):
            raise EncoderError(
                "config.json: do_stable_layer_norm is true; only models with post-norm layers "
                "(base sizes, data2vec) are supported"
            )
        size, first = int(config["hidden_size"]), int(config["conv_dim"][-1])
        self.hidden_size = size
        self._config = config
        self.masked_spec_embed = nn.Parameter(torch.rand(size))
        self.feature_extractor = nn.Module()
        self.feature_extractor.conv_layers = nn.ModuleList(
            _ConvLayer(config, i) for i in range(len(config["conv_dim"]))
        )
        self.feature_projection = nn.Module()
        self.feature_projection.layer_norm = nn.LayerNorm(first, eps=config["layer_norm_eps"])
        self.feature_projection.projection = nn.Linear(first, size)
        self.projection_dropout = nn.Dropout(config["feat_proj_dropout"])
        self.encoder = nn.Module()
        self.encoder.pos_conv_embed = _ConvolutionalPositions(config)
        self.encoder.layer_norm = nn.LayerNorm(size, eps=config["layer_norm_eps"])
        self.encoder.layers = nn.ModuleList(
            _AudioLayer(config) for _ in range(config["num_hidden_layers"])
        )
        self.dropout = nn.Dropout(config["hidden_dropout"])

    def frame_mask(self, mask: Tensor, n_frames: int) -> Tensor:
        """Return int64 [batch, n_frames]: 1 up to the last frame that the samples' `mask` reaches.

        Clips too short for one frame wrap around as they do in the published code: all frames
        count where 80 to 399 samples are valid, all but the last below that.
        """
        last = conv_length(mask.sum(-1).long(), self._config) - 1
        out = mask.new_zeros((len(mask), n_frames), dtype=torch.long)
        out[torch.arange(len(mask), device=mask.device), last] = 1
        return out.flip(1).cumsum(1).flip(1)

    def forward(self, audio: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return (states [batch, frames, size], valid frames [batch] int64).

        audio: [batch, samples] float32; mask: [batch, samples], 1 = sample, or None.
        """
        x = audio.unsqueeze(1)
        convolutions = self.feature_extractor.conv_layers
        assert isinstance(convolutions, nn.ModuleList)
        for layer in convolutions:
            x = layer(x)
        part = self.feature_projection.get_submodule
        x = part("projection")(part("layer_norm")(x.transpose(1, 2)))
        x = self.projection_dropout(x)
        frames = None if mask is None else self.frame_mask(mask, x.shape[1])
        if self.training:
            x = self._augment(x, frames)
        if frames is not None:
            x = x * frames.unsqueeze(-1)
        x = x + self.encoder.get_submodule("pos_conv_embed")(x)
        x = self.dropout(self.encoder.get_submodule("layer_norm")(x))
        bias = _key_bias(frames, x.dtype)
        layers = self.encoder.layers
        assert isinstance(layers, nn.ModuleList)
        drop = float(self._config.get("layerdrop", 0.0)) if self.training else 0.0
        for layer in layers:
            if drop == 0 or float(torch.rand(())) >= drop:
                x = layer(x, bias)
        count = torch.full((len(x),), x.shape[1], device=x.device)
        return x, count if frames is None else frames.sum(1)

    def _augment(self, x: Tensor, frames: Tensor | None) -> Tensor:
        """Replace random spans of frames by a learned vector, as fine-tuning does."""
        p = float(self._config.get("mask_time_prob", 0.0))
        span = int(self._config.get("mask_time_length", 10))
        if not self._config.get("apply_spec_augment", True) or p == 0 or x.shape[1] <= span:
            return x
        covered = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        for i in range(len(x)):
            n = x.shape[1] if frames is None else int(frames[i].sum())
            least = int(self._config.get("mask_time_min_masks", 0))
            count = max(int(p * n / span + float(torch.rand(()))), least)
            starts = torch.randperm(max(n - span + 1, 1))[:count].tolist()
            for start in starts:
                covered[i, start : start + span] = True
        return torch.where(covered.unsqueeze(-1), self.masked_spec_embed, x)


def _only_gelu(config: BackboneSettings) -> None:
    act = config.get("hidden_act", "gelu")
    if act != "gelu":
        raise EncoderError(f"config.json: hidden_act {act!r} is not supported, only 'gelu'")


def renamed_weight_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `state` with weight norm under torch's present names (older files: weight_g, _v)."""
    new = {".weight_g": ".parametrizations.weight.original0"}
    new[".weight_v"] = ".parametrizations.weight.original1"
    out: dict[str, Tensor] = {}
    for key, tensor in state.items():
        for old, name in new.items():
            if key.endswith("pos_conv_embed.conv" + old):
                key = key.removesuffix(old) + name
        out[key] = tensor
    return out
