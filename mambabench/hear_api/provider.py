"""Import a HEAR module (a provider) and call its functions, with errors that name the fault."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mambabench.errors import EncoderError, nearest_names
from mambabench.files import sha256_file
from mambabench.models.entry import BRIDGES

if TYPE_CHECKING:
    import torch

__all__ = [
    "FUNCTIONS",
    "SAMPLE_RATES_HZ",
    "Provider",
    "ProviderNotFound",
    "check_attributes",
    "foreign_code",
    "import_provider",
    "load_model",
    "protected",
]

FUNCTIONS = ("load_model", "get_scene_embeddings", "get_timestamp_embeddings")
SAMPLE_RATES_HZ = (16000, 22050, 32000, 44100, 48000)  # HEAR 2021 rules, "Common format"

_shield = threading.RLock()


class ProviderNotFound(EncoderError):  # noqa: N818 - it names what happened
    """Neither a file nor an importable module has the name that was given."""


@dataclass(frozen=True)
class Provider:
    """The three functions of a HEAR module and where they come from."""

    name: str  # dotted module or path, as the user gave it
    file: Path | None  # None for modules without a source file
    load_model: Callable[..., Any]
    get_scene_embeddings: Callable[..., Any]
    get_timestamp_embeddings: Callable[..., Any]

    @property
    def folder(self) -> Path | None:
        """Where modules beside a provider file are looked for; None for a dotted module, whose
        own folder would shadow packages of the same names."""
        if self.file is None or not _is_path(self.name):
            return None
        return self.file.resolve().parent

    def source_sha256(self) -> str:
        """Return the hash of the module's file, or of its name where there is none."""
        if self.file is not None and self.file.is_file():
            return sha256_file(self.file)
        return hashlib.sha256(self.name.encode()).hexdigest()


@contextlib.contextmanager
def protected(name: str, doing: str, folder: Path | None = None) -> Iterator[None]:
    """Run foreign code: with a bare ``sys.argv``, `folder` importable, and every fault an
    EncoderError that says which provider did what.

    Many published modules parse the command line when they are imported; they must see none of
    ours. `sys.argv` and `sys.path` are put back afterwards.
    """
    with _shield:
        argv, path = sys.argv, list(sys.path)
        sys.argv = [name]
        if folder is not None:
            sys.path.insert(0, str(folder))
        try:
            with foreign_code(name, doing):
                yield
        finally:
            sys.argv = argv
            sys.path[:] = path


@contextlib.contextmanager
def foreign_code(name: str, doing: str) -> Iterator[None]:
    """Turn whatever the provider `name` raises into an EncoderError; SystemExit too."""
    try:
        yield
    except EncoderError:
        raise
    except SystemExit as error:
        raise EncoderError(
            f"provider {name!r} ended the program (exit status {error.code}) while {doing}; "
            "a HEAR module must not parse sys.argv or call sys.exit: give its options defaults"
        ) from error
    except Exception as error:
        raise EncoderError(
            f"provider {name!r} raised {type(error).__name__} while {doing}: {error}"
        ) from error


def import_provider(name: str) -> Provider:
    """Import the dotted module or ``.py`` file `name` and return its HEAR functions.

    Modules are looked for on ``sys.path`` and in the current directory. Raises EncoderError where
    the module cannot be found or imported, or lacks one of the three functions.
    """
    suffix = Path(name).suffix
    if suffix in (".onnx", ".tflite"):
        raise EncoderError(
            f"{name} is no Python module: give {suffix[1:]}@{name}, with a "
            f"{Path(name).with_suffix('.toml').name} beside it (docs/adding-an-encoder.md)"
        )
    module = _import_file(Path(name)) if _is_path(name) else _import_dotted(BRIDGES.get(name, name))
    missing = [f for f in FUNCTIONS if not callable(getattr(module, f, None))]
    if missing:
        near = "".join(nearest_names(f, vars(module)) for f in missing)
        raise EncoderError(
            f"provider {name!r} lacks {', '.join(missing)}{near}; a HEAR module defines "
            + ", ".join(FUNCTIONS)
            + " at its top level"
        )
    file = Path(module.__file__) if module.__file__ else None
    return Provider(name, file, *(getattr(module, f) for f in FUNCTIONS))


def _is_path(name: str) -> bool:
    return name.endswith(".py") or "/" in name


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ProviderNotFound(
            f"no provider file {str(path)!r}: give the path of an existing .py file"
        )
    # a name of its own per file content: two files called model.py never shadow each other
    key = f"_mambabench_provider_{sha256_file(path)[:16]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(key, path)
    if spec is None or spec.loader is None:
        raise EncoderError(f"{str(path)!r} is not a Python source file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module  # dataclasses and pickling look their module up here
    try:
        with protected(str(path), "being imported", path.resolve().parent):
            spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(key, None)
        raise
    return module


def _import_dotted(name: str) -> ModuleType:
    with protected(name, "being imported", Path.cwd()):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
                raise  # the module exists; something that it imports does not
            raise ProviderNotFound(
                f"no encoder or importable module named {name!r} (module {error.name!r} not found "
                "on sys.path or in the current directory): give a registered name, a dotted module "
                "or the path of a .py file"
            ) from error


def load_model(provider: Provider, checkpoint: str | Path | None, device: str) -> torch.nn.Module:
    """Load the provider's model, move it to `device` and put it into evaluation mode.

    The published kit never calls ``eval()``; modules that forget it would give other embeddings
    for every call. Raises EncoderError where the model is no torch module or its HEAR attributes
    are missing or of the wrong kind.
    """
    import torch

    with protected(provider.name, "loading its model", provider.folder):
        model = provider.load_model(str(checkpoint)) if checkpoint else provider.load_model()
    if not isinstance(model, torch.nn.Module):
        raise EncoderError(
            f"load_model of provider {provider.name!r} returned {type(model).__name__}; "
            "mambabench runs torch.nn.Module only"
        )
    check_attributes(provider.name, model)
    return model.to(device).eval()


def check_attributes(name: str, model: torch.nn.Module) -> None:
    """Raise EncoderError unless `model` declares HEAR's three numbers as HEAR asks."""
    for attribute in ("sample_rate", "scene_embedding_size", "timestamp_embedding_size"):
        value = getattr(model, attribute, None)
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise EncoderError(
                f"the model of provider {name!r} has {attribute} = {value!r}; "
                f"set model.{attribute} to a positive int"
            )
    if model.sample_rate not in SAMPLE_RATES_HZ:
        raise EncoderError(
            f"the model of provider {name!r} has sample_rate = {model.sample_rate}; HEAR knows "
            + ", ".join(map(str, SAMPLE_RATES_HZ))
        )
