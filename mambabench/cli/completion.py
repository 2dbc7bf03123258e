"""What a shell completes: names of encoders, tasks, recipes and archives, and files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

__all__ = ["archives", "encoders", "recipes", "tasks"]

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _names(known: Callable[[], Iterable[str]], *, files: bool = False) -> Complete:
    """Return a completion of names, and of files where these are right too."""

    def complete(
        context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        found = [CompletionItem(name) for name in known() if name.startswith(incomplete)]
        if files and (not found or "/" in incomplete):
            found.append(CompletionItem(incomplete, type="file"))
        return found

    return complete


def _encoders() -> tuple[str, ...]:
    from mambabench.models.registry import encoder_names

    return encoder_names()


def _tasks() -> list[str]:
    """Return groups, known tasks, and those below ./tasks and the default output folder."""
    from mambabench.benchmarks.known import known_rows
    from mambabench.benchmarks.names import groups

    here = [p.parent.name for p in sorted(Path("tasks").glob("*/task_metadata.json"))]
    return list(dict.fromkeys([*here, *groups(), *(row.name for row in known_rows())]))


def _recipes() -> tuple[str, ...]:
    from mambabench.train.recipes import recipe_names

    return recipe_names()


def _archives() -> list[str]:
    from mambabench.acquire.archives import ARCHIVES

    return [archive.task for archive in ARCHIVES]


encoders = _names(_encoders, files=True)
tasks = _names(_tasks, files=True)
recipes = _names(_recipes, files=True)
archives = _names(_archives)
