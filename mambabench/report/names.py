"""Names as printed: short ones of known tasks, those of the user's file, and globs that choose."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from mambabench.benchmarks.known import FAMILIES
from mambabench.benchmarks.limit import limit_of, whole_name
from mambabench.benchmarks.names import named_tasks
from mambabench.benchmarks.tasks import list as known_tasks
from mambabench.errors import DataError, MambabenchError, nearest_names
from mambabench.reading.tables import read_table
from mambabench.report.exchange.overall import LEADERBOARD_COLUMNS

__all__ = ["chosen", "read_names", "short_task", "task_family", "warn_of_unknown"]

# words of the tasks' titles that a column has no room for
_SHORTER = {
    "NSynth Pitch": "NSynth",
    "Speech commands": "SpeechCmd",
    "Mridangam Stroke": "Mridangam S",
    "Mridangam Tonic": "Mridangam T",
    "GTZAN Music/Speech": "GTZAN M/S",
    "VoxLingua107 top 10": "VoxLingua",
    "Vocal Imitation": "VocalImit",
}


@cache
def _titles() -> dict[str, str]:
    """Directory -> short title, of every task that is known by name."""

    families = (family for family in FAMILIES.values() if family.short_titles)
    titles = {row.name: row.title for family in families for row in family.rows()}
    titles |= {directory: title for title, directory in LEADERBOARD_COLUMNS.items()}
    for name, title in titles.items():
        for long, short in _SHORTER.items():
            title = title.replace(long, short)
        titles[name] = title
    return titles


def short_task(task: str) -> str:
    """Return a task's short name; an unknown directory keeps its own."""
    title = _titles().get(whole_name(task))
    limit = limit_of(task)
    return task if title is None else f"{title} {limit}" if limit else title


@cache
def _families() -> dict[str, str]:
    families = {row.name: row.family for row in known_tasks()}
    return families | dict.fromkeys(LEADERBOARD_COLUMNS.values(), "hear")


def task_family(task: str) -> str:
    """Return the family of a task; "own" for an unknown directory."""
    return _families().get(whole_name(task), "own")


def read_names(file: Path) -> dict[str, tuple[str, str]]:
    """Read a CSV of `label`, `name` and perhaps `group`: label -> (name, group).

    Labels are those of encoders and of task directories. DataError, naming file and line, for an
    empty field, a label that stands twice, or a column that is missing.
    """
    found: dict[str, tuple[str, str]] = {}
    for row in read_table(file, ("label", "name")):
        label, name = row["label"], row["name"]
        if not label or not name:
            raise DataError(
                f"{file}, line {row.line}: label and name are needed; leave the line out to keep "
                "a label as it is"
            )
        if label in found:
            raise DataError(f"{file}, line {row.line}: {label!r} stands there twice; keep one")
        found[label] = (name, row.get("group", ""))
    return found


def warn_of_unknown(file: Path, labels: Iterable[str], known: Sequence[str]) -> None:
    """Warn of labels that no encoder or task of the report has: perhaps misspelt."""
    for label in labels:
        if label not in known:
            warnings.warn(
                f"{file}: no encoder or task {label!r} in this report{nearest_names(label, known)}",
                stacklevel=2,
            )


def chosen(what: str, names: Iterable[str], patterns: Sequence[str]) -> set[str]:
    """Return the names that one of the patterns fits (`*`, `?`, `[...]`).

    Tasks may be called by short names, titles and groups too. Without patterns all of them.
    MambabenchError, with the nearest names, for a pattern that fits none.
    """
    names = sorted(set(names))
    if not patterns:
        return set(names)
    found: set[str] = set()
    for pattern in patterns:
        fits = {
            name
            for name in names
            if name == pattern
            or fnmatchcase(name, pattern)
            or (what == "task" and fnmatchcase(short_task(name).lower(), pattern.lower()))
        }
        if what == "task":
            fits |= set(named_tasks(pattern, names))
        if not fits:
            raise MambabenchError(
                f"--{what} {pattern!r}: no results of such; there are {', '.join(names)}"
                f"{nearest_names(pattern, names)}"
            )
        found |= fits
    return found
