"""Read JSON files: marks, encodings, depth, type; and the keys that stand in them twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mambabench.errors import DataError, MambabenchError
from mambabench.reading.text import decode_text, read_text

__all__ = ["parse_json", "read_json_object", "read_json_value"]


def parse_json(text: str, repeated: list[str] | None = None) -> Any:
    """Return the value of a JSON text; ValueError, never another exception, where it has none.

    Keys that stand twice in an object are added to `repeated`.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(items)
        if repeated is not None and len(result) < len(items):
            keys = [key for key, _ in items]
            repeated.extend(sorted({key for key in keys if keys.count(key) > 1}))
        return result

    if not text.strip():
        raise ValueError("it is empty")
    try:
        return json.loads(text, object_pairs_hook=pairs if repeated is not None else None)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_json_value(path: Path) -> Any:
    """Return the value of a JSON file; ValueError (also for its encoding) or OSError."""
    return parse_json(decode_text(path.read_bytes()))


def read_json_object(
    path: Path, *, remedy: str, error: type[MambabenchError] = DataError
) -> dict[str, Any]:
    """Return the object of a JSON file; `error` names file, place and `remedy` else."""
    text = read_text(path, remedy=remedy, error=error)
    try:
        value = parse_json(text)
    except ValueError as wrong:
        raise error(f"{path} is no JSON ({wrong}); {remedy}") from wrong
    if not isinstance(value, dict):
        raise error(f"{path} holds a {type(value).__name__}, not an object of keys; {remedy}")
    return value
