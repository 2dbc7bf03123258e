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
from mambabench.models.scan import (
    Direction,
    causal_conv1d,
    selective_scan,
    selective_scan_bidirectional,
)

__all__ = ["MambaMixer", "MixerConfiguration"]

Projected = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # time step, B, C


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


class _Convolution(nn.Module):
    """The depthwise convolution's parameters, under the names of torch.nn.Conv1d."""

    def __init__(self, d_inner: int, d_conv: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_inner, 1, d_conv))
        self.bias = nn.Parameter(torch.empty(d_inner))


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
        self.add_module(f"conv1d{suffix}", _Convolution(c.d_inner, c.d_conv))
        x_proj = nn.Linear(c.d_inner, c.dt_rank + 2 * c.d_state, bias=False)
        self.add_module(f"x_proj{suffix}", x_proj)
        self.add_module(f"dt_proj{suffix}", nn.Linear(c.dt_rank, c.d_inner))

    def _project(self, u: torch.Tensor, suffix: str) -> Projected:
        """Return time step (before bias and softplus), B and C of the convolved input."""
        c = self.configuration
        projected = self.get_submodule(f"x_proj{suffix}")(u)
        dt, B, C = projected.split((c.dt_rank, c.d_state, c.d_state), dim=-1)
        weight: torch.Tensor = self.get_parameter(f"dt_proj{suffix}.weight")
        return F.linear(dt, weight), B, C

    def _convolve(self, u: torch.Tensor, suffix: str, reverse: bool) -> torch.Tensor:
        weight = self.get_parameter(f"conv1d{suffix}.weight").squeeze(1)
        bias = self.get_parameter(f"conv1d{suffix}.bias")
        return causal_conv1d(u, weight, bias, activation="silu", reverse=reverse)

    def _direction(
        self, u: torch.Tensor, projected: Projected, names: tuple[str, str, str]
    ) -> Direction:
        """Bundle a scan's inputs; `names` are those of A_log, D and the time step's bias."""
        dt, B, C = projected
        A_log, D, bias = (self.get_parameter(name) for name in names)
        return Direction(u, dt, -torch.exp(A_log), B, C, D, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mix `x` [n, length, d_model] along its length."""
        fast = mix(self, x)
        if fast is not None:
            return fast
        c = self.configuration
        u_in, z = self.in_proj(x).chunk(2, dim=-1)
        u = self._convolve(u_in, "", reverse=False)
        projected = self._project(u, "")
        first = self._direction(u, projected, ("A_log", "D", "dt_proj.bias"))
        if c.directions == "none":
            y = selective_scan(*first[:6], z=z, delta_bias=first.delta_bias, delta_softplus=True)
            assert isinstance(y, torch.Tensor)  # no last state asked for
        else:
            if c.directions == "v1":
                second = self._direction(u, projected, ("A_b_log", "D", "dt_proj.bias"))
            else:
                u = self._convolve(u_in, "_b", reverse=True)
                names = ("A_b_log", "D_b", "dt_proj_b.bias")
                second = self._direction(u, self._project(u, "_b"), names)
            halve = c.directions == "v2" and c.divide_out
            y = selective_scan_bidirectional(
                first, second, z=z, delta_softplus=True, scale=0.5 if halve else 1.0
            )
        out: torch.Tensor = self.out_proj(y)
        return out * self.gamma if c.layer_scale else out
