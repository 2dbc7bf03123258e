"""The precision of an encoder's matrix products: fp64, fp32, bf16 or int8 (CPU)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

__all__ = ["BF16_LOSS", "Bf16Linear", "Int8Linear", "set_precision"]

# Products left in float32 under bf16, the fastest choice first: the time step's, which is narrow
# and exponentiated; then all that the scan's recurrence feeds on.
_KEPT = (("dt_proj",), ("dt_proj", "x_proj", "in_proj"))
BF16_LOSS = 1e-4  # 1 - cosine of the worst token; noise loses two to five times as much as audio


class Bf16Linear(nn.Module):
    """A linear layer whose product runs in bfloat16; input, bias and output stay as they come."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", linear.weight.detach().bfloat16())
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x @ weight.T + bias."""
        y = nn.functional.linear(x.bfloat16(), self.weight).to(x.dtype)
        return y if self.bias is None else y + self.bias


class Int8Linear(nn.Module):
    """A linear layer with int8 weights (one scale per output) and activations (one per call).

    CPU only, through torch's dynamically quantised kernels.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(dim=1).clamp_min(1e-12).double() / 127
        zero = torch.zeros(weight.shape[0], dtype=torch.int64)
        with warnings.catch_warnings():  # deprecated, and the only way to these kernels
            warnings.filterwarnings("ignore", message="torch.quantize_per_tensor")
            quantised = torch.quantize_per_channel(weight, scale, zero, 0, torch.qint8)
        bias = None if linear.bias is None else linear.bias.detach().float()
        self._packed = torch.ops.quantized.linear_prepack(quantised, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x @ weight.T + bias, approximately."""
        y: torch.Tensor = torch.ops.quantized.linear_dynamic(x.contiguous(), self._packed, True)
        return y


def set_precision(model: nn.Module, precision: str) -> tuple[str, ...]:
    """Change `model` in place to the precision; for bf16 return what is left in float32.

    bf16 and int8 change the linear layers only: scan, convolutions, norms, residual stream and
    everything between the products stay in float32. bf16 takes as many products as keep the
    direction of every token: with those that drive the scan, without them, or none at all, the
    first that holds `BF16_LOSS` on the tokens of half noise, half silence. Weights can multiply the
    rounding by hundreds, and only they tell. "all" stands for every product.
    """
    if precision == "fp64":
        model.double()
    if precision == "int8":
        _replace(model, Int8Linear, _KEPT[0])
    return _lower(model) if precision == "bf16" else ()


def _lower(model: nn.Module) -> tuple[str, ...]:
    backbone: Any = next((m for m in model.modules() if hasattr(m, "encode")), None)
    if backbone is None:  # an encoder without products
        return ()
    tokens = _trial_tokens(backbone)
    encode: Callable[[torch.Tensor], torch.Tensor] = backbone.encode
    with torch.no_grad():
        exact = encode(tokens)
        for kept in _KEPT:
            replaced = _replace(model, Bf16Linear, kept)
            cosine = nn.functional.cosine_similarity(
                exact.double(), encode(tokens).double(), dim=-1
            )
            if float(cosine.min()) >= 1 - BF16_LOSS:
                return kept
            for parent, name, linear in replaced:
                setattr(parent, name, linear)
    return ("all",)


def _trial_tokens(backbone: Any) -> torch.Tensor:
    """Return the first block's input [1, n_tokens, dim] for noise and then silence."""
    c, generator = backbone.configuration, torch.Generator().manual_seed(0)
    if hasattr(c, "img_size"):
        image = torch.randn(1, 1, *c.img_size, generator=generator)
        image[:, :, c.img_size[0] // 2 :] = 0
        return backbone.tokens_in(image)  # type: ignore[no-any-return]
    bands, frames = c.spectrogram_size
    fbank = 0.5 * torch.randn(1, frames, bands, generator=generator)  # its usual normalisation
    fbank[:, frames // 2 :] = 0.47  # what padding becomes by AudioSet's mean and deviation
    patches = backbone.patch_grid(fbank)
    positions = backbone.positions(tuple(patches.shape[2:]))
    return backbone.arrange(patches, positions)  # type: ignore[no-any-return]


def _replace(
    model: nn.Module, kind: type[Bf16Linear | Int8Linear], kept: tuple[str, ...]
) -> list[tuple[nn.Module, str, nn.Linear]]:
    """Put layers of `kind` in the place of linear ones not named in `kept`; return the latter."""
    replaced = []
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and not name.startswith(kept):
                setattr(parent, name, kind(child))
                replaced.append((parent, name, child))
    return replaced
