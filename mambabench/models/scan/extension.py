"""The mamba_ssm backend: its CUDA extension where it is really installed."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor

from mambabench.models.scan.reference import causal_conv

__all__ = ["conv", "scan"]

NARROW = True  # the extension takes bfloat16 and float16 as they are


def scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    bias: Tensor | None, softplus: bool, reverse: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return y [batch, length, dim] and the last state [batch, dim, d_state].

    The extension knows one direction and channels before time: inputs are transposed, and
    flipped for `reverse`.
    """
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    def turned(x: Tensor | None) -> Tensor | None:
        if x is None:
            return None
        x = x.to(u.dtype).transpose(1, 2)
        return (x.flip(-1) if reverse else x).contiguous()

    vectors = [None if x is None else x.float() for x in (D, bias)]
    y, last = selective_scan_fn(
        turned(u), turned(delta), A.float(), turned(B), turned(C), vectors[0], turned(z),
        vectors[1], softplus, True,
    )  # fmt: skip
    y = y.flip(-1) if reverse else y
    return y.transpose(1, 2), last


def conv(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool) -> Tensor:
    """Return the convolved `x` [batch, length, dim], by causal_conv1d where it is installed."""
    if find_spec("causal_conv1d_cuda") is None or not 2 <= weight.shape[1] <= 4:
        wide = [t if t is None else t.float() for t in (x, weight, bias)]
        assert wide[0] is not None
        assert wide[1] is not None
        return causal_conv(wide[0], wide[1], wide[2], silu, reverse).to(x.dtype)
    causal_conv1d_fn = import_module("causal_conv1d").causal_conv1d_fn

    rows = (x.flip(1) if reverse else x).transpose(1, 2).contiguous()
    weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
    y: Tensor = causal_conv1d_fn(rows, weight, bias, activation="silu" if silu else None)
    y = y.transpose(1, 2)
    return torch.flip(y, (1,)) if reverse else y
