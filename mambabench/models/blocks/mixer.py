"""One Mamba mixer for every encoder here; the published variations are data.

Parameter names, shapes and their order are those of mamba_ssm 1.1 and of Vim's extension of it, so
that published state dicts fit as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from mambabench.models.blocks.fused import mix
from mambabench.models.blocks.parts import Convolution
from mambabench.models.plain import is_plain
from mambabench.models.scan import (
    Direction,
    causal_conv1d,
    selective_scan,
    selective_scan_bidirectional,
)

__all__ = ["MambaMixer", "MixerConfiguration"]

# Time step before the softplus, the bias still to be added to it, B, C.
Projected = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class MixerConfiguration:
    """The shape of a mixer.

    `directions`: "none" scans forwards; "v1" shares convolution, projections and D between the two
    directions and has its own A for the second; "v2" has its own of everything but the input and
    output projections.
    """

    d_model: int
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    directions: str = "none"
    divide_out: bool = True  # v2 only: halve the sum of the two directions; v1 never does
    layer_scale: bool = False  # a learned factor per output channel

    @property
    def d_inner(self) -> int:
        """Channels of the scan."""
        return self.expand * self.d_model

    @property
    def dt_rank(self) -> int:
        """Width of the time step's bottleneck."""
        return math.ceil(self.d_model / 16)


class MambaMixer(nn.Module):
    """x [n, length, d_model] -> [n, length, d_model] through a selective state space."""

    def __init__(self, configuration: MixerConfiguration) -> None:
        super().__init__()
        c = self.configuration = configuration
        if c.directions not in ("none", "v1", "v2"):
            raise ValueError(f"directions must be none, v1 or v2, not {c.directions!r}")
        if c.layer_scale:
            self.gamma = nn.Parameter(torch.empty(c.d_model))
        self.A_log = nn.Parameter(torch.empty(c.d_inner, c.d_state))
        self.D = nn.Parameter(torch.empty(c.d_inner))
        if c.directions != "none":
            self.A_b_log = nn.Parameter(torch.empty(c.d_inner, c.d_state))
        if c.directions == "v2":
            self.D_b = nn.Parameter(torch.empty(c.d_inner))
        self.in_proj = nn.Linear(c.d_model, 2 * c.d_inner, bias=False)
        self._add_path("")
        if c.directions == "v2":
            self._add_path("_b")
        self.out_proj = nn.Linear(c.d_inner, c.d_model, bias=False)

    def _add_path(self, suffix: str) -> None:
        c = self.configuration
        self.add_module(f"conv1d{suffix}", Convolution(c.d_inner, c.d_conv))
        x_proj = nn.Linear(c.d_inner, c.dt_rank + 2 * c.d_state, bias=False)
        self.add_module(f"x_proj{suffix}", x_proj)
        self.add_module(f"dt_proj{suffix}", nn.Linear(c.dt_rank, c.d_inner))

    def _project(self, u: torch.Tensor, suffix: str) -> Projected:
        """Return time step (before softplus), its bias, B and C of the convolved input."""
        c = self.configuration
        projected = self.get_submodule(f"x_proj{suffix}")(u)
        dt, B, C = projected.split((c.dt_rank, c.d_state, c.d_state), dim=-1)
        dt_proj = self.get_submodule(f"dt_proj{suffix}")
        if isinstance(dt_proj, nn.Linear) and is_plain(dt_proj, (nn.Linear,)):
            return F.linear(dt, dt_proj.weight), dt_proj.bias, B, C  # the scan adds the bias
        return dt_proj(dt), None, B, C

    def _convolve(self, u: torch.Tensor, suffix: str, reverse: bool) -> torch.Tensor:
        layer = self.get_submodule(f"conv1d{suffix}")
        if isinstance(layer, Convolution) and is_plain(layer, (Convolution,)):
            weight = layer.weight.squeeze(1)
            return causal_conv1d(u, weight, layer.bias, activation="silu", reverse=reverse)
        rows = (u.flip(1) if reverse else u).transpose(1, 2)
        y = F.silu(layer(rows)[..., : u.shape[1]]).transpose(1, 2)
        return y.flip(1) if reverse else y

    def _direction(self, u: torch.Tensor, projected: Projected, A_log: str, D: str) -> Direction:
        """Bundle a scan's inputs, A_log and D by name."""
        dt, bias, B, C = projected
        # not get_parameter: parametrised and functional weights are other tensors
        return Direction(u, dt, -torch.exp(getattr(self, A_log)), B, C, getattr(self, D), bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mix `x` [n, length, d_model] along its length."""
        fast = mix(self, x)
        if fast is not None:
            return fast
        c = self.configuration
        u_in, z = self.in_proj(x).chunk(2, dim=-1)
        u = self._convolve(u_in, "", reverse=False)
        projected = self._project(u, "")
        first = self._direction(u, projected, "A_log", "D")
        if c.directions == "none":
            y = selective_scan(*first[:6], z=z, delta_bias=first.delta_bias, delta_softplus=True)
            assert isinstance(y, torch.Tensor)  # no last state asked for
        else:
            if c.directions == "v1":
                second = self._direction(u, projected, "A_b_log", "D")
            else:
                u = self._convolve(u_in, "_b", reverse=True)
                second = self._direction(u, self._project(u, "_b"), "A_b_log", "D_b")
            halve = c.directions == "v2" and c.divide_out
            y = selective_scan_bidirectional(
                first, second, z=z, delta_softplus=True, scale=0.5 if halve else 1.0
            )
        out: torch.Tensor = self.out_proj(y)
        return out * self.gamma if c.layer_scale else out
