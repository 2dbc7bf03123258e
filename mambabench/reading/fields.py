"""Hold what a JSON file gives against the types that a dataclass's fields have."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any

__all__ = ["check_fields"]


def check_fields(kind: type, values: Mapping[str, Any]) -> None:
    """Raise TypeError, naming the field, where a value is not of its type.

    Types are str, int, float (whole numbers too), bool, None, tuples and dictionaries of these and
    their unions; fields of other dataclasses, and names that are no field, are not looked at.
    """
    hints = _hints(kind)
    for name, value in values.items():
        if name in hints and not _fits(hints[name], value):
            raise TypeError(f"{name} is {_shown(value)}, not {_said(hints[name])}")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _fits(hint: Any, value: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(part, value) for part in typing.get_args(hint))
    if origin is tuple:
        inner = typing.get_args(hint)[0]
        return isinstance(value, list | tuple) and all(_fits(inner, part) for part in value)
    if origin is dict:
        of_keys, of_values = typing.get_args(hint)
        return isinstance(value, dict) and all(
            _fits(of_keys, key) and _fits(of_values, part) for key, part in value.items()
        )
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, int | float)
    return not isinstance(hint, type) or hint not in _PLAIN or isinstance(value, hint)


_PLAIN = (str, int, bool, types.NoneType)


def _said(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
