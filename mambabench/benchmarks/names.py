"""How tasks may be called: directory, short name, title, glob, or the name of a group."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

from mambabench.benchmarks.family import TaskRow
from mambabench.benchmarks.known import FAMILIES, known_rows
from mambabench.benchmarks.limit import limit_of, whole_name
from mambabench.errors import nearest_names

__all__ = ["SMALL_H", "groups", "named_tasks", "near_tasks"]

SMALL_H = 3.0  # hours of audio that a task of the group "small" has at most
_KINDS: dict[str, Callable[[TaskRow], bool]] = {
    "speech": lambda row: row.domain == "speech",
    "music": lambda row: row.domain == "music",
    "sound": lambda row: row.domain == "sound",
    "small": lambda row: row.hours is not None and row.hours <= SMALL_H,
}


def groups() -> tuple[str, ...]:
    """Return the names of all groups: the families, then what is heard, then "small"."""
    return (*FAMILIES, *_KINDS)


def _members(group: str) -> set[str]:
    """Return the directory names of a group's tasks."""
    if group in _KINDS:
        return {row.name for row in known_rows() if _KINDS[group](row)}
    return {row.name for row in FAMILIES[group].rows()}


def named_tasks(name: str, available: Iterable[str]) -> tuple[str, ...]:
    """Return which of the `available` directory names `name` means, sorted; () for none.

    A directory's own name goes first, then one of the `groups`, then a glob, then a short name
    ("esc50", "demo_pitch", "crema_d") or a title ("ESC-50"). A limited task is meant by its own
    name or by a glob only.
    """
    names = sorted(available)
    if name in names:
        return (name,)
    rows = {row.name: row for row in known_rows()}
    whole = [one for one in names if not limit_of(one)]
    if name in groups():
        members = _members(name)
        return tuple(one for one in whole if one in members)
    if any(letter in name for letter in "*?["):
        return tuple(one for one in names if fnmatchcase(one, name))
    wanted = _plain(name)
    found = tuple(one for one in whole if wanted in _short(one, rows.get(one)))
    return found if wanted else ()


def _short(directory: str, row: TaskRow | None) -> set[str]:
    """Return what a directory may be called: it without version and mode, and its title."""
    base = re.split(r"-(?:v?\d|hear2021|full|demo)", directory)[0]
    short = {_plain(base), _plain(base.removeprefix("tfds_"))}
    return short if row is None else short | {_plain(row.title)}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def near_tasks(name: str, known: Sequence[str] | Iterable[str]) -> str:
    """Return a hint at known directory names that contain `name`, else at the nearest ones."""
    known = sorted(known)
    longer = [repr(n) for n in known if name and name in n][:3]
    if longer:
        return f"; did you mean {' or '.join(longer)}?"
    short = {whole_name(n).split("-")[0]: n for n in reversed(known)}
    return nearest_names(name, [*known, *groups()]) or nearest_names(name, short)
