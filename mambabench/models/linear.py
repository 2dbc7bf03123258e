"""The precision of an encoder's matrix products: fp64, fp32, bf16 or int8 (CPU)."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from mambabench.errors import EncoderError, nearest_names

__all__ = ["PRECISIONS", "Bf16Linear", "Int8Linear", "precision_name", "set_precision"]

PRECISIONS = ("fp32", "bf16", "int8", "fp64")
_BY_DTYPE = {
    torch.float32: "fp32",
    torch.bfloat16: "bf16",
    torch.int8: "int8",
    torch.float64: "fp64",
}


def precision_name(dtype: torch.dtype | str | None) -> str:
    """Return the precision's name for a name, a torch dtype or None (fp32)."""
    if dtype is None:
        return "fp32"
    name = _BY_DTYPE.get(dtype, str(dtype)) if isinstance(dtype, torch.dtype) else dtype
    if name not in PRECISIONS:
        raise EncoderError(
            f"precision {name!r} is not one of {', '.join(PRECISIONS)}"
            f"{nearest_names(name, PRECISIONS)}"
        )
    return name


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


def set_precision(model: nn.Module, precision: str) -> nn.Module:
    """Change `model` in place to the precision and return it; fp32 leaves it as it is.

    bf16 and int8 change the linear layers only: scan, convolutions, norms, residual stream and
    everything between the products stay in float32.
    """
    if precision == "fp32":
        return model
    if precision == "fp64":
        return model.double()
    kind = Bf16Linear if precision == "bf16" else Int8Linear
    for name, child in list(model.named_children()):
        if name.startswith("dt_proj"):
            continue  # a narrow product whose result is exponentiated: kept in float32
        if isinstance(child, nn.Linear):
            setattr(model, name, kind(child))
        else:
            set_precision(child, precision)
    return model
