"""What a training run keeps on disk: safetensors files with a JSON header, written atomically."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from mambabench.errors import StoreError
from mambabench.files import atomic_write

__all__ = [
    "derived_seed",
    "load_tensors",
    "optimiser_tensors",
    "plain",
    "restore_optimiser",
    "save_tensors",
    "seeded",
    "unplain",
    "weights_of",
    "weights_sha256",
]

Tensor = torch.Tensor


def derived_seed(*parts: object) -> int:
    """Return a seed below 2**63 that depends on all `parts`, by their text."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextmanager
def seeded(*parts: object) -> Iterator[None]:
    """Let torch's generators (dropout, initialisation) start from `parts`, and put them back."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derived_seed(*parts))
        yield


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the state dict on the CPU, aliases included."""
    return {key: value.detach().cpu().clone() for key, value in module.state_dict().items()}


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over keys, shapes, types and bytes in the order of the keys."""
    digest = hashlib.sha256()
    for key in sorted(state):
        value = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write `tensors` with `header` (JSON values) atomically."""
    data = save(
        {key: value.contiguous().clone() for key, value in tensors.items()},
        {"header": json.dumps(header, sort_keys=True)},
    )

    def write(file: BinaryIO) -> None:
        file.write(data)

    atomic_write(path, write)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return (tensors, header) of a file of `save_tensors`; StoreError where it cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("header", "{}"))
            return {key: file.get_tensor(key) for key in file.keys()}, header  # noqa: SIM118
    except Exception as error:
        raise StoreError(f"{path} cannot be read ({error}); delete it and train again") from error


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return Adam's moments and steps as flat tensors, by parameter index."""
    out: dict[str, Tensor] = {}
    for index, values in optimiser.state_dict()["state"].items():
        for name, value in values.items():
            out[f"{index}.{name}"] = torch.as_tensor(value).detach().cpu().clone()
    return out


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def plain(value: Any) -> Any:
    """Return JSON: NaN and infinities as text, which `float` reads back."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    return value


def unplain(value: Any) -> Any:
    """Return what `plain` was given."""
    if isinstance(value, dict):
        if set(value) == {"float"}:
            return float(value["float"])
        return {key: unplain(item) for key, item in value.items()}
    return [unplain(item) for item in value] if isinstance(value, list) else value
