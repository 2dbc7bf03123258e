"""Read a golden case, run backward passes and compare every array of its outputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn


@dataclass(frozen=True)
class Case:
    """One golden case: its settings, inputs, wanted outputs and weights."""

    folder: Path
    info: dict[str, Any]
    inputs: dict[str, torch.Tensor]
    wanted: dict[str, np.ndarray]
    weights: dict[str, torch.Tensor] | None

    @property
    def train(self) -> bool:
        return self.info.get("mode", "eval").startswith("train")

    @property
    def grad(self) -> bool:
        return self.train or "grad" in self.info.get("mode", "eval")


def read_case(folder: Path) -> Case:
    info = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    inputs = {k: torch.from_numpy(v) for k, v in _arrays(folder / "inputs.npz").items()}
    weights = folder / "weights.safetensors"
    return Case(
        folder,
        info,
        inputs,
        _arrays(folder / "outputs.npz"),
        load_file(weights) if weights.exists() else None,
    )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        return {}
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def assert_close(case: Case, name: str, got: Any, want: Any) -> None:
    tolerance = case.info["tolerance"]
    got = np.asarray(got.detach() if isinstance(got, torch.Tensor) else got)
    want = np.asarray(want)
    assert got.shape == want.shape, f"{name}: shape {got.shape} instead of {want.shape}"
    np.testing.assert_allclose(
        got, want, rtol=tolerance["rtol"], atol=tolerance["atol"], equal_nan=True, err_msg=name
    )


def assert_outputs(case: Case, got: Mapping[str, Any]) -> None:
    """Every array of outputs.npz must have been computed, and be right."""
    missing = set(case.wanted) - set(got)
    assert not missing, f"no value computed for {sorted(missing)}"
    for name, want in case.wanted.items():
        assert_close(case, name, got[name], want)


def loss_of(case: Case, named: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Evaluate the case's `loss`: BCE or sum of L1 by name, otherwise its own expression."""
    text = case.info.get("loss", "")
    if text.startswith("BCE"):
        y = case.inputs["y"].reshape(-1, 1).float()
        return nn.functional.binary_cross_entropy_with_logits(named["logit"], y)
    names: dict[str, Any] = {**case.inputs, **named, "sum": torch.sum, "mean": torch.mean}
    if text == "sum(y*loss_weight)" and "y_a" in named:
        text = "sum(y_a*loss_weight_a) + sum(y_v*loss_weight_v)"
    value = eval(text, {"__builtins__": {}}, names)
    assert isinstance(value, torch.Tensor)
    return value


def leaves(case: Case, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Copies of the inputs that ask for gradients where the case wants them."""
    out = {}
    for name in names:
        out[name] = case.inputs[name].clone()
        if case.grad and out[name].is_floating_point():
            out[name].requires_grad_()
    return out


def add_gradients(
    got: dict[str, Any],
    module: nn.Module,
    inputs: Mapping[str, torch.Tensor],
    prefix: str = "grad.",
) -> None:
    """Add parameter gradients under every key of the state dict, and those of the inputs."""
    for key, tensor in module.state_dict(keep_vars=True).items():
        if tensor.grad is not None:
            got[f"{prefix}{key}"] = tensor.grad
    for key, tensor in inputs.items():
        if tensor.grad is not None:
            got[f"grad_{key}"] = tensor.grad


def add_state(got: dict[str, Any], module: nn.Module, prefix: str) -> None:
    for key, tensor in module.state_dict().items():
        got[f"{prefix}{key}"] = tensor.clone()


def assert_without_gradient(case: Case, module: nn.Module) -> None:
    """`params_with_no_grad` and `params_without_grad` have no gradient at all, not a zero one."""
    listed = case.info.get("params_with_no_grad", case.info.get("params_without_grad"))
    if listed is None:
        return
    state = module.state_dict(keep_vars=True)
    without = {name for name, parameter in module.named_parameters() if state[name].grad is None}
    assert without == set(listed)
