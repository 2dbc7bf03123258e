"""Seeded initial weights, as the authors' constructors draw them, off torch's global stream.

What every system shares is here; a model's `initial_rules` names what it does differently.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Mapping

import torch
from torch import nn

__all__ = ["RULES", "initialise"]

_LECUN = 0.87962566103423978  # standard deviation of a unit normal cut at two


@torch.no_grad()
def initialise(model: nn.Module, seed: int, n_layers: int) -> None:
    """Fill every parameter of `model` from a generator seeded with `seed`.

    Linear layers and convolutions, biases included, are uniform within 1 / sqrt(fan in), output
    projections divided by sqrt(n_layers); time-step biases make softplus(bias) log-uniform in
    [0.001, 0.1], those of a second direction are 0; A = -1..-N; D and norms 1; tokens and learned
    positions normal with deviation 0.02. `model.initial_rules` (pattern of parameter names to a
    name in RULES, the first that fits) comes before that. A model's fixed entries are left to its
    own `fill_fixed`.
    """
    generator = torch.Generator().manual_seed(seed)
    rules: Mapping[str, str] = getattr(model, "initial_rules", {})
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if not parameter.requires_grad:
            continue
        rule = next((r for pattern, r in rules.items() if fnmatch.fnmatch(name, pattern)), None)
        if rule is not None:
            parameter.copy_(RULES[rule](parameter.shape, generator))
        else:
            sibling = parameters.get(name.rpartition(".")[0] + ".weight")
            parameter.copy_(_draw(name, parameter, sibling, n_layers, generator))
    fill = getattr(model, "fill_fixed", None)
    if fill is not None:
        fill()


def _uniform(shape: torch.Size, bound: float, generator: torch.Generator) -> torch.Tensor:
    return (torch.rand(shape, generator=generator) * 2 - 1) * bound


def _fan_in(shape: torch.Size) -> int:
    return math.prod(shape[1:])


def _xavier(shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """Glorot's uniform; every pixel of a convolution's kernel counts as an output, too."""
    fan_out = shape[0] * math.prod(shape[2:])
    return _uniform(shape, math.sqrt(6 / (_fan_in(shape) + fan_out)), generator)


def _lecun(shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """Normal with deviation 1 / sqrt(fan in) after being cut at two of its deviations."""
    values = torch.empty(shape)
    std = math.sqrt(1 / _fan_in(shape)) / _LECUN
    return nn.init.trunc_normal_(values, 0.0, std, -2 * std, 2 * std, generator=generator)


def _normal(deviation: float) -> Callable[[torch.Size, torch.Generator], torch.Tensor]:
    def draw(shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * deviation

    return draw


def _token(shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """Xavier normal on (1, 1, D): deviation 1 / sqrt(D)."""
    return torch.randn(shape, generator=generator) / math.sqrt(shape[-1])


def _zero(shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    return torch.zeros(shape)


def _one(shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    return torch.ones(shape)


RULES: dict[str, Callable[[torch.Size, torch.Generator], torch.Tensor]] = {
    "xavier": _xavier,
    "lecun": _lecun,
    "small": _normal(0.02),
    "token": _token,
    "zero": _zero,
    "one": _one,
}


def _draw(
    name: str,
    parameter: torch.Tensor,
    weight: torch.Tensor | None,
    n_layers: int,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return the values of one parameter; `weight` stands beside it where it is a bias."""
    shape = parameter.shape
    module, _, last = name.rpartition(".")
    module = module.rpartition(".")[2]
    if last in ("A_log", "A_b_log"):
        return torch.arange(1.0, shape[1] + 1).log().expand(shape)
    if last in ("D", "D_b", "gamma") or (last == "weight" and parameter.ndim == 1):
        return torch.ones(shape)
    if module.startswith("dt_proj"):
        if last == "weight":
            return _uniform(shape, shape[1] ** -0.5, generator)
        return torch.zeros(shape) if module == "dt_proj_b" else _step_bias(shape, generator)
    if last == "bias":
        if weight is None or weight.ndim == 1:  # a norm's
            return torch.zeros(shape)
        return _uniform(shape, 1 / math.sqrt(_fan_in(weight.shape)), generator)
    if last == "weight":
        bound = 1 / math.sqrt(_fan_in(shape))
        return _uniform(
            shape, bound / math.sqrt(n_layers if module == "out_proj" else 1), generator
        )
    return torch.randn(shape, generator=generator) * 0.02


def _step_bias(shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """Return b with softplus(b) log-uniform in [0.001, 0.1]."""
    low, high = math.log(1e-3), math.log(1e-1)
    step = (torch.rand(shape, generator=generator) * (high - low) + low).exp().clamp_min(1e-4)
    return step + torch.log(-torch.expm1(-step))
