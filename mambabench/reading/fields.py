"""Hold what a JSON file gives against the types that a dataclass's fields have."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

__all__ = ["check_fields"]

_Fits = Callable[[Any], bool]
_PLAIN = (str, int, bool, types.NoneType)


class _Field(NamedTuple):
    """The type of a field, and what says whether a value is of it."""

    hint: Any
    fits: _Fits


def check_fields(kind: type, values: Mapping[str, Any]) -> None:
    """Raise TypeError, naming the field, where a value is not of its type.

    Types are str, int, float (whole numbers too), bool, None, tuples and dictionaries of these and
    their unions; fields of other dataclasses, and names that are no field, are not looked at.
    """
    known = _fields(kind)
    for name, value in values.items():
        field = known.get(name)
        if field is not None and not field.fits(value):
            raise TypeError(f"{name} is {_shown(value)}, not {_said(field.hint)}")


@cache
def _fields(kind: type) -> dict[str, _Field]:
    hints = typing.get_type_hints(kind)
    return {name: _Field(hint, _fits(hint)) for name, hint in hints.items()}


@cache
def _fits(hint: Any) -> _Fits:
    """Return what says whether a value is of a type, which is taken apart once, not per value."""
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return _any_of(hint)
    if origin is tuple:
        inner = _fits(typing.get_args(hint)[0])
        return lambda value: isinstance(value, list | tuple) and all(map(inner, value))
    if origin is dict:
        of_keys, of_values = map(_fits, typing.get_args(hint))
        return lambda value: (
            isinstance(value, dict)
            and all(map(of_keys, value))
            and all(map(of_values, value.values()))
        )
    if hint is float:
        return lambda value: isinstance(value, int | float) and not isinstance(value, bool)
    if hint is bool:
        return lambda value: isinstance(value, bool)
    if isinstance(hint, type) and hint in _PLAIN:
        return lambda value: isinstance(value, hint) and not isinstance(value, bool)
    return lambda value: not isinstance(value, bool)


def _any_of(union: Any) -> _Fits:
    """Return what says whether a value is of one of the types; what JSON has is told at once."""
    hints = typing.get_args(union)
    parts = [_fits(hint) for hint in hints]
    exact = {hint for hint in hints if hint in (*_PLAIN, float)}
    if float in exact:
        exact.add(int)
    return lambda value: type(value) in exact or any(fits(value) for fits in parts)


def _said(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
