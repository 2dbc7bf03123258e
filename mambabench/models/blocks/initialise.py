"""Seeded initial weights, by the rules of mamba_ssm 1.1, without touching torch's global stream."""

from __future__ import annotations

import math

import torch
from torch import nn

__all__ = ["initialise"]


@torch.no_grad()
def initialise(model: nn.Module, seed: int, n_layers: int) -> None:
    """Fill every parameter of `model` from a generator seeded with `seed`.

    Linear layers and kernels are uniform within 1 / sqrt(fan in), output projections divided by
    sqrt(n_layers); time-step biases make softplus(bias) log-uniform in [0.001, 0.1]; A = -1..-N;
    D and norms 1; other biases 0; tokens and learned positions normal with deviation 0.02. A
    model's fixed entries are left to its own `fill_fixed`.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.copy_(_draw(name, parameter, n_layers, generator))
    fill = getattr(model, "fill_fixed", None)
    if fill is not None:
        fill()


def _draw(
    name: str, parameter: torch.Tensor, n_layers: int, generator: torch.Generator
) -> torch.Tensor:
    shape = parameter.shape
    module, _, last = name.rpartition(".")
    module = module.rpartition(".")[2]

    def uniform(bound: float) -> torch.Tensor:
        return (torch.rand(shape, generator=generator) * 2 - 1) * bound

    if last in ("A_log", "A_b_log"):
        return torch.arange(1.0, shape[1] + 1).log().expand(shape)
    if last in ("D", "D_b", "gamma") or (last == "weight" and parameter.ndim == 1):
        return torch.ones(shape)
    if module.startswith("dt_proj"):
        return _step_bias(shape, generator) if last == "bias" else uniform(shape[1] ** -0.5)
    if last == "bias":
        return torch.zeros(shape)
    if last == "weight":
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        return uniform(bound / math.sqrt(n_layers) if module == "out_proj" else bound)
    return torch.randn(shape, generator=generator) * 0.02


def _step_bias(shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """Return b with softplus(b) log-uniform in [0.001, 0.1]."""
    low, high = math.log(1e-3), math.log(1e-1)
    step = (torch.rand(shape, generator=generator) * (high - low) + low).exp().clamp_min(1e-4)
    return step + torch.log(-torch.expm1(-step))
