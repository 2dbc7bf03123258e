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
from numbers import Integral
from pathlib import Path
from types import ModuleType
from typing import Any

from mambabench.errors import EncoderError, nearest_names
from mambabench.files import sha256_file
from mambabench.hear_api.fence import fenced, last_lines, place_of, standard_streams, whole
from mambabench.models.entry import BRIDGES

__all__ = [
    "FUNCTIONS",
    "SAMPLE_RATES_HZ",
    "Provider",
    "ProviderNotFound",
    "check_attributes",
    "foreign_code",
    "import_provider",
    "in_evaluation",
    "lacking",
    "load_as_it_is",
    "load_model",
    "missing_function",
    "on_device",
    "protected",
    "read_number",
    "training_parts",
]

FUNCTIONS = ("load_model", "get_scene_embeddings", "get_timestamp_embeddings")
SAMPLE_RATES_HZ = (16000, 22050, 32000, 44100, 48000)  # HEAR 2021 rules, "Common format"

LONGEST_TEXT = 600  # letters of a provider's own message that are repeated

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
    near: str = ""  # names like those of functions that it lacks

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
    """Run foreign code at import or load: with a bare ``sys.argv``, `folder` importable, everything
    put back afterwards, and every fault an EncoderError that says which provider did what.

    Many published modules parse the command line when they are imported; they must see none of
    ours.
    """
    with _shield:
        argv, path = sys.argv, list(sys.path)
        sys.argv = [name]
        if folder is not None:
            sys.path.insert(0, str(folder))
        try:
            with standard_streams(), foreign_code(name, doing, folder):
                yield
        finally:
            sys.argv = argv
            sys.path[:] = path


@contextlib.contextmanager
def foreign_code(
    name: str, doing: str, folder: Path | None = None, *, random_states: bool = True
) -> Iterator[None]:
    """Fence code of the provider `name` and turn what it raises into an EncoderError that names
    file and line; SystemExit too. `folder` holds its own files."""
    try:
        with fenced(random_states=random_states):
            yield
    except EncoderError:
        raise
    except SystemExit as error:
        raise EncoderError(
            f"provider {name!r} ended the program (exit status {error.code}) while {doing}; "
            "a HEAR module must not parse sys.argv or call sys.exit: give its options defaults"
            f"{place_of(error, folder)}"
        ) from error
    except Exception as error:
        said = " ".join(str(error).split())  # one line: reasons are listed clip by clip
        text = f": {said[:LONGEST_TEXT]}" if said else ""
        raised = EncoderError(
            f"provider {name!r} raised {type(error).__name__} while {doing}{text}"
            f"{place_of(error, folder)}"
        )
        raised.add_note(last_lines(error))
        raised.traceback = whole(error)
        raise raised from error


def import_provider(name: str, *, whole: bool = True) -> Provider:
    """Import the dotted module or ``.py`` file `name` and return its HEAR functions.

    Modules are looked for on ``sys.path`` and in the current directory. Raises EncoderError where
    the module cannot be found or imported, or lacks one of the three functions; unless `whole`, in
    whose place then stands `missing_function`.
    """
    suffix = Path(name).suffix
    if suffix in (".onnx", ".tflite"):
        raise EncoderError(
            f"{name} is no Python module: give {suffix[1:]}@{name}, with a "
            f"{Path(name).with_suffix('.toml').name} beside it (docs/adding-an-encoder.md)"
        )
    module = _import_file(Path(name)) if _is_path(name) else _import_dotted(BRIDGES.get(name, name))
    missing = [f for f in FUNCTIONS if not callable(getattr(module, f, None))]
    near = "".join(nearest_names(f, vars(module)) for f in missing)
    if missing and whole:
        raise lacking(name, missing, near)
    file = Path(module.__file__).absolute() if module.__file__ else None
    load, scene, timestamps = (
        missing_function if f in missing else getattr(module, f) for f in FUNCTIONS
    )
    return Provider(name, file, load, scene, timestamps, near)


def missing_function(*_: Any, **__: Any) -> Any:
    """Stand for a function that a module lacks."""
    raise EncoderError("the module does not define this function")


def lacking(name: str, missing: list[str], near: str) -> EncoderError:
    """Return the error about functions that a module does not define."""
    return EncoderError(
        f"provider {name!r} lacks {', '.join(missing)}{near}; a HEAR module defines "
        + ", ".join(FUNCTIONS)
        + " at its top level"
    )


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


def load_model(provider: Provider, checkpoint: str | Path | None, device: str) -> Any:
    """Load the provider's model, have it on `device` and in evaluation mode.

    Any object will do that declares HEAR's three numbers. The published kit never calls ``eval()``;
    modules that forget it would give other embeddings for every call. Raises EncoderError where
    the attributes are missing or of the wrong kind, or a method of the model's own fails.
    """
    model = load_as_it_is(provider, checkpoint)
    check_attributes(provider.name, model)
    return in_evaluation(provider, on_device(provider, model, device))


def load_as_it_is(provider: Provider, checkpoint: str | Path | None) -> Any:
    """Return what the provider's load_model returns; EncoderError where that is nothing."""
    with protected(provider.name, "loading its model", provider.folder):
        model = provider.load_model(str(checkpoint)) if checkpoint else provider.load_model()
    if model is None:
        raise EncoderError(
            f"load_model of provider {provider.name!r} returned None: end it with `return model`"
        )
    return model


def on_device(provider: Provider, model: Any, device: str) -> Any:
    """Return the model with its tensors on `device`; its ``to`` is called only if one is not."""
    places: set[str] = set()  # a model that cannot list its parameters is moved where it must be
    with (
        contextlib.suppress(EncoderError),
        foreign_code(provider.name, "its model's parameters were listed", provider.folder),
    ):
        places = {str(tensor.device) for tensor in _tensors_of(model)} - {"meta"}
    exact = ":" in device  # cuda:1 is another place than cuda:0
    elsewhere = {p for p in places if (p if exact else p.partition(":")[0]) != device}
    if not elsewhere and (places or device == "cpu"):
        return model
    if not callable(getattr(model, "to", None)):
        if device == "cpu":
            return model
        raise EncoderError(
            f"the model of provider {provider.name!r} has no method to(device), so it cannot be "
            f"moved to {device}: use --device cpu, or let load_model return a torch.nn.Module"
        )
    with foreign_code(provider.name, f"its model's to({device!r}) was called", provider.folder):
        moved = model.to(device)
    return moved if hasattr(moved, "sample_rate") else model


def _tensors_of(model: Any) -> list[Any]:
    import torch

    if not isinstance(model, torch.nn.Module):
        return []
    return [*model.parameters(), *model.buffers()]


def in_evaluation(provider: Provider, model: Any) -> Any:
    """Return the model in evaluation mode; its ``eval`` is called only if a part is not."""
    parts = "its modules"  # unless they can be listed
    with (
        contextlib.suppress(EncoderError),
        foreign_code(provider.name, "its model's modules were listed", provider.folder),
    ):
        parts = training_parts(model)
    if not parts or not callable(getattr(model, "eval", None)):
        return model
    with foreign_code(provider.name, "its model's eval() was called", provider.folder):
        changed = model.eval()
    return changed if hasattr(changed, "sample_rate") else model


def training_parts(model: Any) -> str:
    """Name up to three modules in training mode, or return ``""``."""
    import torch

    if not isinstance(model, torch.nn.Module):
        return "the model" if getattr(model, "training", False) is True else ""
    names = [name or "the model" for name, module in model.named_modules() if module.training]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def check_attributes(name: str, model: Any) -> None:
    """Raise EncoderError unless `model` declares HEAR's three numbers as HEAR asks."""
    for attribute in ("sample_rate", "scene_embedding_size", "timestamp_embedding_size"):
        read_number(name, model, attribute)
    if model.sample_rate not in SAMPLE_RATES_HZ:
        raise EncoderError(
            f"the model of provider {name!r} has sample_rate = {model.sample_rate}; HEAR knows "
            + ", ".join(map(str, SAMPLE_RATES_HZ))
        )


def read_number(name: str, model: Any, attribute: str) -> int:
    """Return one of HEAR's three numbers; EncoderError where it is no positive int."""
    with foreign_code(name, f"its model's {attribute} was read"):
        value = getattr(model, attribute, None)
    if isinstance(value, bool) or not isinstance(value, Integral) or value <= 0:
        raise EncoderError(
            f"the model of provider {name!r} has {attribute} = {value!r}; "
            f"set model.{attribute} to a positive int"
        )
    return int(value)
