"""``--json`` for verbs that print lines: one object on standard output, on errors too.

What a verb prints is kept as `lines`; what it knows in better form it says with `tell`.
"""

from __future__ import annotations

import dataclasses
import io
import json
import sys
from collections.abc import Mapping
from typing import Any

import click

__all__ = ["asked", "begin", "error_text", "plain", "result_text", "tell", "wanted"]


class _JsonState:
    """What the verb of this process has been asked and has said."""

    def __init__(self) -> None:
        self.verb = ""  # "" where --json was not given, or the verb prints its own
        self.facts: dict[str, Any] = {}
        self.lines: list[str] = []


_state = _JsonState()


def begin() -> None:
    """Forget what an earlier command of this process said."""
    global _state
    _state = _JsonState()


def asked(context: click.Context, option: click.Parameter, value: bool) -> None:
    """Keep what the verb prints from now on: the callback of --json."""
    if not value:
        return
    _state.verb = "-".join(context.command_path.split()[1:]) or str(context.info_name)
    before, kept = sys.stdout, io.StringIO()
    sys.stdout = kept

    def restore() -> None:
        sys.stdout = before
        _state.lines = kept.getvalue().splitlines()

    context.call_on_close(restore)


def tell(**facts: Any) -> None:
    """Add what the verb knows to its object, dataclasses and paths included."""
    _state.facts |= {name: plain(value) for name, value in facts.items()}


def result_text(code: int) -> str:
    """Return the object of a verb that has ended, "" where --json was not asked of it."""
    if not _state.verb:
        return ""
    head = {"schema": f"mambabench.{_state.verb}/1", "exit_code": code}
    return _text({**head, **_state.facts, "lines": _state.lines})


def wanted() -> bool:
    """Say whether --json stands on the command line."""
    return "--json" in sys.argv[1:]


def error_text(kind: str, message: str, code: int) -> str:
    """Return the object that stands for an error."""
    return _text({"error": {"kind": kind, "message": message, "exit_code": code}})


def _text(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False)


def plain(value: Any) -> Any:
    """Return a value as JSON holds it; what is not finite becomes null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(part) for part in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None
    return str(value)
