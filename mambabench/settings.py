"""Settings of a verb, declared once: what the command line, Python and configuration files share.

A verb's settings are a frozen dataclass whose fields `option` makes. The command line builds its
options from them, `settings_of` checks what Python and configuration files give, and `as_plain`
is what is stored.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from mambabench.errors import MambabenchError, nearest_names

__all__ = [
    "OUT",
    "Names",
    "Option",
    "Paths",
    "as_plain",
    "option",
    "option_names",
    "options_of",
    "parse_share",
    "settings_of",
]

T = TypeVar("T")
OUT = Path("mambabench-out")  # where everything goes unless told otherwise
Names = str | Sequence[str]  # a string alone is one name
Paths = Path | str | Sequence[Path | str]


@dataclass(frozen=True)
class Option:
    """One setting as everybody sees it."""

    name: str  # of the field; the command line writes it with dashes
    default: Any
    help: str
    metavar: str | None
    minimum: float | None
    maximum: float | None
    kind: type  # bool, int, float, str or Path
    numbers: bool  # a text that may be given as a number
    commas: bool  # several may stand in one text
    called: str | None  # on the command line, where that is another name
    many: bool  # a tuple of that kind
    optional: bool  # may be None
    _choices: Sequence[str] | str

    def choices(self) -> tuple[str, ...]:
        """Return the right values, () where any will do; other packages may add some."""
        if isinstance(self._choices, str):
            module, _, name = self._choices.partition(":")
            return tuple(getattr(import_module(module), name))
        return tuple(self._choices)

    @property
    def flag(self) -> str:
        """Return how the command line calls it."""
        return "--" + (self.called or self.name).replace("_", "-")

    @property
    def is_choice(self) -> bool:
        """Say whether only certain values are right."""
        return bool(self._choices)


def option(
    default: Any,
    help: str = "",
    *,
    choices: Sequence[str] | str = (),
    metavar: str | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    numbers: bool = False,
    commas: bool = False,
    called: str | None = None,
) -> Any:
    """Declare a setting; `choices` are values, or "module:NAME" of what is read when needed."""
    known = {"help": help, "choices": choices, "metavar": metavar, "minimum": minimum}
    known |= {"maximum": maximum, "numbers": numbers, "commas": commas, "called": called}
    return dataclasses.field(default=default, metadata=known)


def options_of(settings: type) -> dict[str, Option]:
    """Return the options that a class of settings declares, by name."""
    hints = typing.get_type_hints(settings)
    found = {}
    for field in dataclasses.fields(settings):
        kind, many, optional = _kind(hints[field.name])
        known = field.metadata
        found[field.name] = Option(
            field.name,
            field.default,
            known["help"],
            known["metavar"],
            known["minimum"],
            known["maximum"],
            kind,
            known["numbers"],
            known["commas"],
            known["called"],
            many,
            optional,
            known["choices"],
        )
    return found


def option_names(settings: type) -> tuple[str, ...]:
    """Return the names of a class of settings."""
    return tuple(options_of(settings))


def _kind(hint: Any) -> tuple[type, bool, bool]:
    """Return kind, whether it is a tuple of that, and whether it may be None."""
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True, False
    if isinstance(hint, types.UnionType):
        (kind,) = (part for part in typing.get_args(hint) if part is not type(None))
        return kind, False, True
    return hint, False, False


def settings_of(
    settings: type[T],
    values: Mapping[str, Any],
    where: str = "",
    error: type[MambabenchError] = MambabenchError,
) -> T:
    """Return checked settings; a string or path alone stands for a tuple of one.

    `where` ("experiment.toml: ") begins every message. Raises `error` for a name that is none,
    answered with the nearest, and for a value of the wrong kind or out of range.
    """
    try:
        return _settings(settings, values, where)
    except MambabenchError as problem:
        raise error(str(problem)) from None


def _settings(settings: type[T], values: Mapping[str, Any], where: str) -> T:
    known = options_of(settings)
    for name in values:
        if name not in known:
            near = nearest_names(name, known)
            raise MambabenchError(f"{where}no setting {name!r}{near or _all(known)}")
    return settings(**{name: _checked(known[name], values[name], where) for name in values})


def _all(known: Mapping[str, Option]) -> str:
    return f" (there are {', '.join(known)})"


def _checked(option: Option, value: Any, where: str) -> Any:
    if value is None and option.optional:
        return None
    if not option.many:
        return _one(option, value, where)
    alone = isinstance(value, str | Path) or not isinstance(value, Sequence)
    parts = (value,) if alone else tuple(value)
    if option.commas:
        parts = tuple(
            p for part in parts for p in (_cut(part) if isinstance(part, str) else [part])
        )
    return tuple(_one(option, part, where) for part in parts)


def _cut(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


_NOUNS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}


def _one(option: Option, value: Any, where: str) -> Any:
    """Return one value in its kind; a number is one only if it is no truth value."""
    kind = option.kind
    said = f"{where}{option.name} is {value!r}"
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    if option.numbers and isinstance(value, int | float) and not isinstance(value, bool):
        value = f"{value:g}" if isinstance(value, float) else str(value)
    if kind is str and isinstance(value, Path):
        value = str(value)
    right = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if not right or (isinstance(value, bool) and kind is not bool):
        raise MambabenchError(f"{said}, but must be {_NOUNS.get(kind, 'a path')}")
    if option.is_choice and value not in option.choices():
        known = option.choices()
        near = nearest_names(str(value), known)
        raise MambabenchError(
            f"{where}{option.flag} {value!r} is not one of {', '.join(known)}{near}"
        )
    if option.minimum is not None and value < option.minimum:
        raise MambabenchError(f"{said}; it must be at least {option.minimum:g}")
    if option.maximum is not None and value > option.maximum:
        raise MambabenchError(f"{said}; it must be at most {option.maximum:g}")
    return kind(value)


def as_plain(settings: Any) -> dict[str, Any]:
    """Return the settings as JSON and TOML hold them: paths as strings, tuples as lists."""
    plain: dict[str, Any] = {}
    for name in options_of(type(settings)):
        value = getattr(settings, name)
        if isinstance(value, tuple):
            plain[name] = [str(part) if isinstance(part, Path) else part for part in value]
        else:
            plain[name] = str(value) if isinstance(value, Path) else value
    return plain


def parse_share(shard: str | None) -> tuple[int, int]:
    """Parse "i/n" with 1 <= i <= n into (i - 1, n); None is all."""
    if shard is None:
        return 0, 1
    first, slash, second = shard.partition("/")
    if slash and first.isdigit() and second.isdigit() and 1 <= int(first) <= int(second):
        return int(first) - 1, int(second)
    raise MambabenchError(f"--shard {shard!r} is not i/n with 1 <= i <= n, such as 1/4 ... 4/4")
