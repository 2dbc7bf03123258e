"""What other packages add: encoders, tasks, protocols, metrics and formats, by entry points.

A package names its object under one of the groups ``mambabench.encoders``, ``.tasks``,
``.protocols``, ``.metrics`` and ``.formats`` as ``name = "module:object"``. What this package has
comes first and keeps its name; an object that cannot be loaded is a warning where names are
listed, and an error where it is asked for. ``MAMBABENCH_PLUGINS=0`` leaves all of them out.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from mambabench.errors import MambabenchError

__all__ = ["Registry", "resolve"]

T = TypeVar("T")


def resolve(target: str) -> Any:
    """Import "module:object" and return the object."""
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


class Registry(MutableMapping[str, T], Generic[T]):
    """Names to objects of one kind: this package's own, then those of other packages.

    A built-in may be given as "module:object", which is imported at its first use. Other packages'
    objects are imported when their names are listed or one of them is asked for. An object that is
    set by its name is there for this process.
    """

    def __init__(self, group: str, kind: type[T], builtin: Mapping[str, T | str]) -> None:
        """`group` is the last part of the entry points' group, `kind` what they must be."""
        self.group = f"mambabench.{group}"
        self._kind = kind
        self._builtin = dict(builtin)
        self._foreign: dict[str, T] | None = None
        self._broken: dict[str, str] = {}

    def __getitem__(self, name: str) -> T:
        """Return the object; KeyError for an unknown name, MambabenchError for a broken one."""
        if name in self._builtin:
            found = self._builtin[name]
            if isinstance(found, str) and self._kind is not str:
                found = self._builtin[name] = resolve(found)
            return found  # type: ignore[return-value]
        foreign = self._load()
        if name in self._broken:
            raise MambabenchError(self._broken[name])
        return foreign[name]

    def __setitem__(self, name: str, value: T) -> None:
        """Add or replace an object for this process, as a notebook may."""
        self._builtin[name] = value

    def __delitem__(self, name: str) -> None:
        del self._builtin[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._builtin
        yield from self._load()

    def __len__(self) -> int:
        return len(self._builtin) + len(self._load())

    def __contains__(self, name: object) -> bool:
        if name in self._builtin:
            return True
        return name in self._load() or name in self._broken

    def _load(self) -> dict[str, T]:
        if self._foreign is None:
            self._foreign = {}
            if os.environ.get("MAMBABENCH_PLUGINS") != "0":
                for point in sorted(
                    entry_points(group=self.group), key=lambda p: (p.name, p.value)
                ):
                    self._add(self._foreign, point)
        return self._foreign

    def _add(self, foreign: dict[str, T], point: EntryPoint) -> None:
        package = point.dist.name if point.dist is not None else "another package"
        who = f"{point.name} = {point.value} ({self.group}, from {package})"
        if point.name in self._builtin or point.name in foreign:
            warnings.warn(f"{who} is left out: the name is taken", stacklevel=2)
            return
        problem = ""
        try:
            found = point.load()
        except (Exception, SystemExit) as error:  # a stranger's package may raise anything
            problem = f"{who} cannot be loaded: {type(error).__name__}: {error}"
        else:
            named = getattr(found, "name", point.name)
            if not isinstance(found, self._kind):
                problem = f"{who} is no {self._kind.__name__}, but {type(found).__name__}"
            elif named != point.name:
                problem = f"{who} calls itself {named!r}: give both one name"
            else:
                foreign[point.name] = found
        if problem:
            self._broken[point.name] = f"{problem}; repair or remove the package {package}"
            warnings.warn(self._broken[point.name], stacklevel=2)
