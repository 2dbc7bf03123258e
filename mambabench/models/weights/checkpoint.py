"""Read checkpoints without running any code of theirs, and match them key by key."""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mambabench.errors import EncoderError
from mambabench.models.entry import EncoderEntry
from mambabench.models.weights.kinds import Checkpoint
from mambabench.models.weights.locate import checkpoint_file
from mambabench.models.weights.recognise import check_converted, recognise

__all__ = ["describe_mismatch", "fit_state", "read_checkpoint"]

StateDict = Mapping[str, torch.Tensor]
PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile, in any order


class ConfigDict:
    """Takes the place of ml_collections' ConfigDict in SSAM's files: holds attributes, no code."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


class FieldReference(ConfigDict):
    """Takes the place of ml_collections' FieldReference."""


def _numpy_scalars() -> list[Any]:
    """Return what a pickled numpy number (an epoch, a loss) needs: its types, and no other code."""
    types = {type(np.dtype(kind)) for kind in "?bhilqBHILQefdFD"}
    make = np.float64(0).__reduce__()[0]
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")  # before and since numpy 2
    return [np.dtype, *types, *((make, f"{module}.scalar") for module in modules)]


_HARMLESS: list[Any] = [
    *(bool, bytes, complex, dict, float, frozenset, int, list, set, str, tuple),  # field types
    argparse.Namespace,
    *_numpy_scalars(),
    ConfigDict,
    FieldReference,
    (ConfigDict, "ml_collections.config_dict.config_dict.ConfigDict"),
    (FieldReference, "ml_collections.config_dict.config_dict.FieldReference"),
]


def read_checkpoint(path: Path, entry: EncoderEntry | None = None) -> Checkpoint:
    """Read a .pth, .pt or .safetensors file, or the highest epoch below a run directory.

    Raises EncoderError if it cannot be read, holds other objects than tensors and plain settings,
    or was converted from another encoder than `entry`.
    """
    file = checkpoint_file(path)
    if file.suffix == ".safetensors":
        return _read_safetensors(file, entry)
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for a bad file
        raise EncoderError(f"cannot read the checkpoint {file}: {_reason(error)}") from error
    return _unwrap(content, file)


def _reason(error: Exception) -> str:
    """Return why torch refused a file, without its advice to run what is in it."""
    foreign = re.search(r"GLOBAL (\S+)", str(error))
    if foreign:
        return (
            f"it holds an object of {foreign[1]}; only tensors and plain settings are read, and "
            "nothing in a file is run"
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, pickle.UnpicklingError):
        return "it is no file of torch.save, or a damaged one; get it anew"
    return f"{type(error).__name__}: {lines[0][:200] if lines else 'no message'}"


def _read_safetensors(file: Path, entry: EncoderEntry | None) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="pt") as opened:
            metadata = dict(opened.metadata() or {})
            state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise EncoderError(f"cannot read {file}: {error}") from error
    if "mambabench" in metadata:
        return check_converted(file, state, metadata, entry)
    bare, prefix = _strip_prefix(state)
    return Checkpoint(bare, prefix=prefix, metadata=metadata)


def _unwrap(content: Any, file: Path) -> Checkpoint:
    wrapper = ""
    extra: tuple[str, ...] = ()
    if isinstance(content, dict):
        for key in ("model", "state_dict"):
            if isinstance(content.get(key), Mapping):
                wrapper, extra = key, tuple(str(k) for k in content if k != key)
                content = content[key]
                break
    if not isinstance(content, Mapping) or not content:
        raise EncoderError(f"{file} holds no state dict, neither bare nor under 'model'")
    bad = [str(key) for key, value in content.items() if not isinstance(value, torch.Tensor)]
    if bad:
        raise EncoderError(f"{file} holds values that are no tensors: {', '.join(bad[:10])}")
    bare, prefix = _strip_prefix({str(key): value for key, value in content.items()})
    return Checkpoint(bare, wrapper, prefix, extra)


def _strip_prefix(state: StateDict) -> tuple[dict[str, torch.Tensor], str]:
    bare, prefix = dict(state), ""
    while bare and (found := next((p for p in PREFIXES if all(k.startswith(p) for k in bare)), "")):
        bare = {key[len(found) :]: value for key, value in bare.items()}
        prefix += found
    if any("._orig_mod." in f".{key}" for key in bare):  # parts of the model were compiled
        bare = {f".{key}".replace("._orig_mod.", ".")[1:]: value for key, value in bare.items()}
        if len(bare) < len(state):
            raise EncoderError(
                "a checkpoint holds weights twice, compiled and not; keep one of them"
            )
    return bare, prefix


def fit_state(model: torch.nn.Module, state: StateDict, name: str, origin: str) -> None:
    """Give `model` (built on the meta device) the tensors of `state`, key by key.

    Raises one EncoderError that lists every missing, extra and misshapen key of `origin` and
    names the encoder that the file seems to be. Floating tensors become float32.
    """
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    problem = describe_mismatch(expected, found)
    if problem:
        seems = [other for other in recognise(found) if other != name]
        guess = f"\nthe file seems to be of {' or '.join(seems)}" if seems else ""
        raise EncoderError(f"{origin} does not fit encoder {name}:\n{problem}{guess}")
    converted = {
        key: value.float() if value.is_floating_point() else value for key, value in state.items()
    }
    model.load_state_dict(converted, strict=True, assign=True)


def describe_mismatch(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> str:
    """Return one line per missing, extra and misshapen key, or ""."""
    lines: list[str] = []
    lines += _listed("missing", (k for k in expected if k not in found))
    lines += _listed("extra", (k for k in found if k not in expected))
    lines += _listed(
        "misshapen",
        (
            f"{k} is {list(found[k])}, expected {list(shape)}"
            for k, shape in expected.items()
            if k in found and found[k] != shape
        ),
    )
    return "\n".join(lines)


def _listed(title: str, items: Iterable[str]) -> list[str]:
    return [f"  {title}: {item}" for item in items]
