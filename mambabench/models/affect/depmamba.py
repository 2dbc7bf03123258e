"""DepMamba: convolution and bidirectional Mamba blocks over two aligned feature streams.

Each stream is projected, passes residual convolutions and collaborative blocks that share their
state-transition matrices (CoSSM), the streams are concatenated, pass an enhanced block (EnSSM), and
the mean over frames is classified. The keys of the state dict are those of the published model,
dead modules and aliases included.

Source: Ye et al., "DepMamba: Progressive Fusion Mamba for Multimodal Depression Detection" (ICASSP
2025), section 2. Two modes: "parity" computes what the published model computes, in which padding
leaks into the logit through batch norm and the backward scan; "masked" keeps padded frames at zero
everywhere, so that a logit does not depend on the other clips of its batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from mambabench.errors import ProtocolError
from mambabench.models.scan import Direction, causal_conv1d, selective_scan_bidirectional

__all__ = ["BiMamba", "CnnLayer", "DepMamba", "DepMambaConfig", "TMeanNet", "masked_mean"]

Tensor = torch.Tensor
Streams = tuple[Tensor, ...]

_SINGLE_CNN = (("conv1", "bn1", "conv", "net"),)
_PAIR_CNN = tuple((f"{p}_conv", f"{p}_bn", f"{p}_skipconv", f"{p}_net") for p in "av")
_SINGLE = ("",)
_PAIR = ("a_", "v_")


@dataclass(frozen=True)
class DepMambaConfig:
    """Widths and depth of a DepMamba; the defaults are those published for D-Vlog.

    A width of 0 removes that stream: the model is then a single-stream sequence classifier with
    `mm_output_sizes` as its levels.
    """

    audio_input_size: int = 25
    video_input_size: int = 136
    mm_input_size: int = 256
    mm_output_sizes: tuple[int, ...] = (256,)
    dropout: float = 0.1  # after the convolutions only
    d_state: int = 12
    expand: int = 4
    d_conv: int = 4
    order: tuple[str, ...] = ("video", "audio")  # of the streams in a feature row
    mode: Literal["parity", "masked"] = "masked"

    def __post_init__(self) -> None:
        if sorted(self.order) != ["audio", "video"]:
            raise ProtocolError(f"order must name 'video' and 'audio' once each, not {self.order}")
        if self.audio_input_size + self.video_input_size == 0:
            raise ProtocolError("audio_input_size and video_input_size are both 0: no input")
        if not self.mm_output_sizes:
            raise ProtocolError("mm_output_sizes must name at least one width")
        if self.mode not in ("parity", "masked"):
            raise ProtocolError(f"mode must be 'parity' or 'masked', not {self.mode!r}")

    @property
    def input_size(self) -> int:
        """Width of one feature row."""
        return self.audio_input_size + self.video_input_size

    @property
    def two_streams(self) -> bool:
        """Whether both streams are present."""
        return self.audio_input_size > 0 and self.video_input_size > 0


def _times(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over frames where `mask` is non-zero; NaN where it is zero everywhere.

    x: [batch, frames, dim]; mask: [batch, frames], any numeric type.
    """
    weights = mask.to(x.dtype).unsqueeze(-1)
    return (x * weights).sum(1) / weights.sum(1)


class _BatchNorm(nn.BatchNorm1d):
    """Batch norm whose training statistics can be restricted to valid frames."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise [batch, channels, frames]; mask [batch, 1, frames] of 0 and 1, or None."""
        if mask is None or not self.training:
            return super().forward(x)
        n = mask.sum()
        mean = (x * mask).sum((0, 2)) / n
        centred = x - mean[:, None]
        variance = (centred.square() * mask).sum((0, 2)) / n
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            unbiased = variance * n / (n - 1).clamp(min=1)
            self.running_var.lerp_(unbiased, self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale[:, None] + self.bias[:, None]


class CnnLayer(nn.Module):
    """Residual convolution of one stream, or of two streams side by side.

    dropout(relu(batch_norm(conv(x)))) + skip(x), kernel 3, on [batch, channels, frames].
    """

    def __init__(self, n_in: int, n_out: int, dropout: float, *, pair: bool) -> None:
        super().__init__()
        self._names = _PAIR_CNN if pair else _SINGLE_CNN
        for conv, bn, skip, net in self._names:
            convolution = nn.Conv1d(n_in, n_out, 3, padding=1, bias=False)
            nn.init.xavier_uniform_(convolution.weight)
            norm = _BatchNorm(n_out)
            self.add_module(conv, convolution)
            self.add_module(bn, norm)
            if n_in != n_out:
                projection = nn.Conv1d(n_in, n_out, 1, bias=False)
                nn.init.xavier_uniform_(projection.weight)
                self.add_module(skip, projection)
            # published files hold every tensor of `net` a second time
            self.add_module(net, nn.Sequential(convolution, norm, nn.ReLU(), nn.Dropout(dropout)))

    def forward(self, streams: Streams, mask: Tensor | None = None) -> Streams:
        """Return the streams, [batch, n_out, frames] each; mask [batch, 1, frames] or None."""
        out = []
        for x, (_, _, skip, net) in zip(streams, self._names, strict=True):
            layers = self.get_submodule(net)
            assert isinstance(layers, nn.Sequential)
            convolution, norm, relu, dropout = layers
            y = dropout(relu(norm(convolution(x), mask)))
            residual = self.get_submodule(skip)(x) if hasattr(self, skip) else x
            out.append(_times(y + residual, mask))
        return tuple(out)


class BiMamba(nn.Module):
    """Bidirectional Mamba mixer of one stream, or of two that share their transition matrices.

    Forward and backward directions have their own convolution and projections but one input and one
    output projection; their outputs are halved and added.
    """

    def __init__(
        self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 2, *, pair: bool
    ) -> None:
        super().__init__()
        self._prefixes = _PAIR if pair else _SINGLE
        inner, rank = expand * d_model, math.ceil(d_model / 16)
        transition = torch.arange(1, d_state + 1, dtype=torch.float32).log().repeat(inner, 1)
        self.A_log = nn.Parameter(transition)
        self.A_b_log = nn.Parameter(transition.clone())
        for prefix in self._prefixes:
            self.add_module(f"{prefix}in_proj", nn.Linear(d_model, 2 * inner, bias=False))
            for suffix in ("", "_b"):
                self.register_parameter(f"{prefix}D{suffix}", nn.Parameter(torch.ones(inner)))
                conv = nn.Conv1d(inner, inner, d_conv, padding=d_conv - 1, groups=inner)
                self.add_module(f"{prefix}conv1d{suffix}", conv)
                x_proj = nn.Linear(inner, rank + 2 * d_state, bias=False)
                self.add_module(f"{prefix}x_proj{suffix}", x_proj)
                dt_proj = nn.Linear(rank, inner)
                if not suffix:  # the published model leaves the backward one at torch's default
                    _init_step(dt_proj)
                self.add_module(f"{prefix}dt_proj{suffix}", dt_proj)
            self.add_module(f"{prefix}out_proj", nn.Linear(inner, d_model, bias=False))

    def forward(self, streams: Streams, mask: Tensor | None = None) -> Streams:
        """Mix [batch, frames, d_model] over frames; mask [batch, frames, 1] or None."""
        out = []
        for x, prefix in zip(streams, self._prefixes, strict=True):
            u, z = self.get_submodule(f"{prefix}in_proj")(x).chunk(2, dim=-1)
            forward = self._direction(u, prefix, "", mask)
            backward = self._direction(u, prefix, "_b", mask)
            y = selective_scan_bidirectional(forward, backward, z, True, scale=0.5)
            out.append(self.get_submodule(f"{prefix}out_proj")(y))
        return tuple(out)

    def _direction(self, u: Tensor, prefix: str, suffix: str, mask: Tensor | None) -> Direction:
        reverse = suffix == "_b"
        conv = self.get_submodule(f"{prefix}conv1d{suffix}")
        dt_proj = self.get_submodule(f"{prefix}dt_proj{suffix}")
        assert isinstance(conv, nn.Conv1d)
        assert isinstance(dt_proj, nn.Linear)
        A_log = self.A_b_log if reverse else self.A_log
        n, rank = A_log.shape[1], dt_proj.in_features
        u = causal_conv1d(u, conv.weight[:, 0], conv.bias, activation="silu", reverse=reverse)
        u = _times(u, mask)  # a zero input leaves the state at zero: padding is never heard
        dt, B, C = self.get_submodule(f"{prefix}x_proj{suffix}")(u).split([rank, n, n], dim=-1)
        return Direction(
            u,
            F.linear(dt, dt_proj.weight),
            -torch.exp(A_log),
            B,
            C,
            self.get_parameter(f"{prefix}D{suffix}"),
            dt_proj.bias,
        )


def _init_step(layer: nn.Linear) -> None:
    """Initialise a step-size projection as Mamba does: steps log-uniform in [0.001, 0.1]."""
    bound = layer.in_features**-0.5
    nn.init.uniform_(layer.weight, -bound, bound)
    low, high = math.log(1e-3), math.log(0.1)
    step = torch.exp(torch.rand(layer.out_features) * (high - low) + low).clamp(min=1e-4)
    with torch.no_grad():
        layer.bias.copy_(step + torch.log(-torch.expm1(-step)))  # inverse of softplus


class _Norm(nn.Module):
    """Layer norm under the key that the published files use."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x)
        return out


class _StreamBlock(nn.Module):
    """x + layer_norm(mixer(x)), for one stream or two."""

    def __init__(self, d_model: int, config: DepMambaConfig, *, pair: bool) -> None:
        super().__init__()
        self.mamba = BiMamba(d_model, config.d_state, config.d_conv, config.expand, pair=pair)
        self._norms = ("norm1", "norm2") if pair else ("norm1",)
        for name in self._norms:
            self.add_module(name, _Norm(d_model))
        if pair:  # never used, but part of every published file
            self.a_downsample = nn.Sequential(
                nn.Conv1d(d_model, d_model, 16, stride=2, padding=8), nn.BatchNorm1d(d_model)
            )

    def forward(self, streams: Streams, mask: Tensor | None = None) -> Streams:
        mixed = self.mamba(streams, mask)
        return tuple(
            _times(x + self.get_submodule(name)(y), mask)
            for x, y, name in zip(streams, mixed, self._norms, strict=True)
        )


class _Encoder(nn.Module):
    """Levels of a convolution followed by a block, for one stream or two."""

    def __init__(
        self, n_in: int, sizes: tuple[int, ...], config: DepMambaConfig, *, pair: bool
    ) -> None:
        super().__init__()
        inputs = (n_in, *sizes[:-1])
        self.mamba_layers = nn.ModuleList(_StreamBlock(size, config, pair=pair) for size in sizes)
        self.cnn_layers = nn.ModuleList(
            CnnLayer(a, b, config.dropout, pair=pair) for a, b in zip(inputs, sizes, strict=True)
        )

    def forward(self, streams: Streams, mask: Tensor | None = None) -> Streams:
        """Encode [batch, frames, n_in] streams; mask [batch, frames, 1] or None."""
        across = None if mask is None else mask.transpose(1, 2)
        for cnn, block in zip(self.cnn_layers, self.mamba_layers, strict=True):
            streams = cnn(tuple(x.transpose(1, 2) for x in streams), across)
            streams = block(tuple(x.transpose(1, 2) for x in streams), mask)
        return streams


class DepMamba(nn.Module):
    """DepMamba with one logit per clip; see the module's docstring."""

    def __init__(self, config: DepMambaConfig) -> None:
        super().__init__()
        self.config = config
        width, last = config.mm_input_size, config.mm_output_sizes[-1]
        for name in ("audio", "video"):
            size = getattr(config, f"{name}_input_size")
            if size:
                projection = nn.Conv1d(size, width, 1, bias=False)
                nn.init.xavier_uniform_(projection.weight)
                self.add_module(f"conv_{name}", projection)
        if config.two_streams:
            self.cossm_encoder = _Encoder(width, config.mm_output_sizes, config, pair=True)
            self.enssm_encoder = _Encoder(2 * last, (2 * last,), config, pair=False)
        else:
            self.enssm_encoder = _Encoder(width, config.mm_output_sizes, config, pair=False)
        self.output = nn.Linear(2 * last if config.two_streams else last, 1)

    def _streams(self, x: Tensor) -> Streams:
        """Split feature rows and project: (audio, video), [batch, frames, width] each."""
        if x.shape[-1] != self.config.input_size:
            raise ProtocolError(
                f"features are {x.shape[-1]} wide, but the model was built for "
                f"{self.config.input_size}; set audio_input_size and video_input_size"
            )
        parts: dict[str, Tensor] = {}
        start = 0
        for name in self.config.order:
            stop = start + int(getattr(self.config, f"{name}_input_size"))
            if stop > start:
                rows = x[..., start:stop].transpose(1, 2)
                parts[name] = self.get_submodule(f"conv_{name}")(rows).transpose(1, 2)
            start = stop
        return tuple(parts[name] for name in ("audio", "video") if name in parts)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return logits [batch, 1] of feature rows [batch, frames, input_size].

        mask [batch, frames], non-zero where a frame counts. Without one, parity mode takes the
        maximum over frames (as published), masked mode the mean over all frames.
        """
        inner: Tensor | None = None
        if self.config.mode == "masked":
            if mask is None:
                mask = x.new_ones(x.shape[:2])
            inner = (mask != 0).to(x.dtype).unsqueeze(-1)
        streams = tuple(_times(s, inner) for s in self._streams(x))
        if self.config.two_streams:
            streams = (torch.cat(self.cossm_encoder(streams, inner), dim=-1),)
        (hidden,) = self.enssm_encoder(streams, inner)
        pooled = hidden.amax(1) if mask is None else masked_mean(hidden, mask)
        logit: Tensor = self.output(pooled)
        return logit


class TMeanNet(nn.Module):
    """The simple baseline: mean over frames, linear layers with ReLU and dropout, one logit.

    Without `masked` the mean includes padding, as in the published code.
    """

    def __init__(
        self,
        input_size: int,
        hidden_sizes: tuple[int, ...],
        dropout: float,
        *,
        masked: bool = False,
    ) -> None:
        super().__init__()
        self.masked = masked
        layers: list[nn.Module] = []
        for a, b in pairwise((input_size, *hidden_sizes)):
            layers += [nn.Linear(a, b), nn.ReLU(), nn.Dropout(dropout)]
        self.fcs = nn.Sequential(*layers)
        self.output = nn.Linear((input_size, *hidden_sizes)[-1], 1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return logits [batch, 1] of feature rows [batch, frames, input_size]."""
        pooled = masked_mean(x, mask) if self.masked and mask is not None else x.mean(1)
        logit: Tensor = self.output(self.fcs(pooled))
        return logit
