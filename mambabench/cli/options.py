"""Options that several verbs share: the same name, meaning and default everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from mambabench.cli import completion
from mambabench.errors import nearest_names
from mambabench.extract.settings import ExtractSettings
from mambabench.probe.settings import ProbeSettings
from mambabench.settings import Option, options_of

__all__ = [
    "Named",
    "as_json",
    "device",
    "engine",
    "from_setting",
    "hop_ms",
    "jobs",
    "of_run",
    "of_settings",
    "on_error",
    "one_out",
    "per_node",
    "seeds",
    "tasks",
    "traceback",
]


class Named(click.Choice[str]):
    """A choice that answers a wrong value with the nearest right ones.

    Names that other packages can add are given as a function, called when they are needed.
    """

    def __init__(self, choices: Sequence[str] | Callable[[], Sequence[str]]) -> None:
        self._names = choices
        super().__init__(() if callable(choices) else choices)

    @property
    def choices(self) -> tuple[str, ...]:
        """All names that are right."""
        return tuple(self._names() if callable(self._names) else self._names)

    @choices.setter
    def choices(self, value: Sequence[str]) -> None:
        """Ignore what the base class sets: the names stand in the function."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.choices:
            known = ", ".join(self.choices)
            near = nearest_names(str(value), self.choices)
            self.fail(f"{value!r} is not one of {known}{near}", param, ctx)
        return str(value)


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def of_settings(settings: type, *names: str) -> Decorator:
    """Return a decorator that gives a command the options of its settings, or those named."""
    known = options_of(settings)

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(names or tuple(known)):
            command = from_setting(known[name])(command)
        return command

    return decorate


def of_run(names: Mapping[str, type]) -> Decorator:
    """Return a decorator that gives a command options of several classes: name -> class."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for name, settings in reversed(tuple(names.items())):
            command = from_setting(options_of(settings)[name])(command)
        return command

    return decorate


def from_setting(one: Option) -> Decorator:
    """Return the click option of a setting."""
    if one.kind is bool:
        return click.option(one.flag, is_flag=True, help=one.help or None)
    kind: Any = one.kind
    if one.is_choice and not one.commas:
        kind = Named(one.choices)
    elif one.minimum is not None:
        ranges: Any = click.IntRange if one.kind is int else click.FloatRange
        kind = ranges(min=one.minimum, max=one.maximum)
    elif one.kind is Path:
        kind = click.Path(path_type=Path)
    return click.option(
        one.flag,
        one.name,
        type=kind,
        multiple=one.many,
        default=(one.default or None) if one.many else one.default,
        show_default=bool(one.default) if one.many else one.default is not None,
        metavar=one.metavar or ("N" if one.kind is int else None),
        help=one.help or None,
        shell_complete=_COMPLETED.get(one.name),
    )


_COMPLETED = {
    "encoder": completion.encoders,
    "baseline": completion.encoders,
    "task": completion.tasks,
}
_EXTRACT, _PROBE = options_of(ExtractSettings), options_of(ProbeSettings)
device: Decorator = from_setting(_EXTRACT["device"])
hop_ms: Decorator = from_setting(_EXTRACT["hop_ms"])
jobs: Decorator = from_setting(_EXTRACT["jobs"])
engine: Decorator = from_setting(_EXTRACT["engine"])
per_node: Decorator = from_setting(_EXTRACT["per_node"])
on_error: Decorator = from_setting(_EXTRACT["on_error"])
one_out: Decorator = from_setting(_EXTRACT["out"])
tasks: Decorator = from_setting(_EXTRACT["tasks"])
seeds: Decorator = from_setting(_PROBE["seeds"])


def _ask_for_tracebacks(context: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        from mambabench.cli import show_whole

        show_whole()


traceback: Decorator = click.option(
    "--traceback",
    is_flag=True,
    expose_value=False,
    callback=_ask_for_tracebacks,
    help="Print the whole traceback of an encoder's fault.",
)


def _ask_for_json(context: click.Context, option: click.Parameter, value: bool) -> None:
    from mambabench.cli.json_out import asked

    asked(context, option, value)


# of verbs that print lines; where there is more to say, a verb has an option of its own
as_json: Decorator = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_ask_for_json,
    help="Print one JSON object only.",
)
