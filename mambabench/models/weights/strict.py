"""Strict loading of a foreign state dict: every key accounted for, aliases understood."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from mambabench.errors import EncoderError, nearest_names

__all__ = ["alias_groups", "load_strict"]


def alias_groups(module: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return, for every state-dict key, all keys under which the same tensor is saved.

    A layer that is registered twice (once by name, once inside a Sequential) appears twice in its
    state dict; files may hold both copies or only one.
    """
    groups: dict[int, list[str]] = {}
    state = module.state_dict(keep_vars=True)
    for key, tensor in state.items():
        groups.setdefault(id(tensor), []).append(key)
    return {key: tuple(groups[id(tensor)]) for key, tensor in state.items()}


def load_strict(module: nn.Module, state: Mapping[str, torch.Tensor], what: str) -> None:
    """Copy `state` into `module`; every key must fit, except copies of an aliased tensor.

    `what` names the file or model in the message. Raises EncoderError that lists all missing,
    unexpected and misshapen keys, and aliases whose copies differ.
    """
    wanted = module.state_dict()
    filled = dict(state)
    faults: list[str] = []
    for key, names in alias_groups(module).items():
        present = [name for name in names if name in state]
        if key not in state and present:
            filled[key] = state[present[0]]
        elif key in state and key != present[0] and not torch.equal(state[key], state[present[0]]):
            faults.append(f"differs from its copy {present[0]}: {key}")
    for key, tensor in wanted.items():
        if key not in filled:
            faults.append(f"missing: {key} {list(tensor.shape)}")
        elif filled[key].shape != tensor.shape:
            faults.append(f"shape {list(filled[key].shape)} instead of {list(tensor.shape)}: {key}")
    faults += [
        f"unexpected: {key}{nearest_names(key, wanted)}" for key in filled if key not in wanted
    ]
    if faults:
        raise EncoderError(
            f"{what}: {len(faults)} tensors do not fit:\n  " + "\n  ".join(sorted(faults))
        )
    module.load_state_dict(filled, strict=True)
