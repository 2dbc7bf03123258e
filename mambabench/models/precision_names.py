"""The names of an encoder's precisions, which need no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mambabench.errors import EncoderError, nearest_names

if TYPE_CHECKING:
    import torch

__all__ = ["PRECISIONS", "precision_name"]

PRECISIONS = ("fp32", "bf16", "int8", "fp64")
_BY_DTYPE = {  # as torch writes its types
    "torch.float32": "fp32",
    "torch.bfloat16": "bf16",
    "torch.int8": "int8",
    "torch.float64": "fp64",
}


def precision_name(dtype: torch.dtype | str | None) -> str:
    """Return the precision's name for a name, a torch dtype or None (fp32)."""
    if dtype is None:
        return "fp32"
    name = _BY_DTYPE.get(str(dtype), str(dtype))
    if name not in PRECISIONS:
        raise EncoderError(
            f"precision {name!r} is not one of {', '.join(PRECISIONS)}"
            f"{nearest_names(name, PRECISIONS)}"
        )
    return name
