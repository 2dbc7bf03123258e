"""What an encoder is called: ``NAME=SPEC``, a file by its stem; names that stand for several."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from mambabench.errors import EncoderError, nearest_names
from mambabench.models.entry import EncoderEntry

__all__ = ["called", "expanded", "short_name"]

_NAMED = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.+-]*)=(.+)", re.DOTALL)
_PYTHON = re.compile(r":python=[^,@]*(?=@|$)")
_FILES = (".py", ".onnx", ".tflite", ".toml")


def called(text: str) -> tuple[str | None, str]:
    """Split "NAME=SPEC" into name and spec; the name is None where there is none."""
    match = None if Path(text).is_file() else _NAMED.fullmatch(text)
    return (match[1], match[2]) if match else (None, text)


def short_name(text: str) -> str:
    """Return what a spec is called: the NAME it is given, the stem of a file, or itself.

    Of ``onnx@FILE`` and ``tflite@FILE`` it is that file's stem; options and checkpoints stay.
    """
    name, spec = called(text)
    if name is not None:
        return name
    spec = _PYTHON.sub("", spec)  # where it runs is no part of its name
    kind, at, rest = spec.partition("@")
    if kind.partition(":")[0] in ("onnx", "tflite") and rest:
        return Path(rest).stem
    if not kind.endswith(_FILES):
        return spec
    return Path(kind).stem + at + rest


def expanded(
    encoders: Sequence[str],
    entries: Mapping[str, EncoderEntry],
    at_hand: Sequence[str],
    runs: Callable[[EncoderEntry], bool] = lambda entry: True,
) -> tuple[str, ...]:
    """Return the specs with ``zoo`` replaced by the encoders of that family that are at hand.

    A glob ("ssam*") becomes the names that it fits and that run here. Raises EncoderError where
    ``zoo`` or a glob is asked for and none is at hand, and where two specs are given one name.
    """
    found: list[str] = []
    for one in map(str, encoders):
        if one == "zoo" and one not in entries and not Path(one).exists():
            if not at_hand:
                raise EncoderError(
                    "no encoder of the zoo is at hand: `mambabench models list` shows the line of "
                    "pip that brings each"
                )
            found += at_hand
        elif any(letter in one for letter in "*?[") and not Path(one).exists():
            found += _fitting(one, entries, runs)
        else:
            found.append(one)
    unique = tuple(dict.fromkeys(found))
    names = [name for name, _ in map(called, unique) if name is not None]
    for name in names:
        if names.count(name) > 1:
            raise EncoderError(f"two encoders are called {name!r}: give each a name of its own")
    return unique


def _fitting(
    glob: str, entries: Mapping[str, EncoderEntry], runs: Callable[[EncoderEntry], bool]
) -> list[str]:
    fits = [name for name in entries if fnmatchcase(name, glob)]
    if not fits:
        raise EncoderError(f"no encoder is called {glob!r}{nearest_names(glob, entries)}")
    found = [name for name in fits if runs(entries[name])]
    if not found:
        raise EncoderError(
            f"of {glob!r} ({', '.join(fits)}) no weights are at hand: `mambabench models show` "
            "says where they come from"
        )
    return found
