"""Read JSON objects of a task directory; small tests of what stands in them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from mambabench.benchmarks.task import Defect
from mambabench.reading.json_files import parse_json
from mambabench.reading.text import decode_text

__all__ = ["Json", "is_label", "is_number", "is_plain", "read_object", "some"]

Json = dict[str, Any]


def read_object(directory: Path, name: str, remedy: str, defects: list[Defect]) -> Json | None:
    """Return the JSON object of a file; a repeated key is a defect, not the last one's victory."""
    repeated: list[str] = []
    try:
        value = parse_json(decode_text((directory / name).read_bytes()), repeated)
    except FileNotFoundError:
        defects.append(Defect(name, "is missing", remedy))
        return None
    except (OSError, ValueError) as error:  # errors of JSON and of its encoding are ValueErrors
        defects.append(Defect(name, f"cannot be read ({error})", "restore or rewrite it"))
        return None
    for key in repeated:
        defects.append(Defect(name, f"key {key!r} stands twice", "keep one of the entries"))
    if not isinstance(value, dict):
        defects.append(Defect(name, "does not hold a JSON object", remedy))
        return None
    return value


def is_plain(name: str) -> bool:
    """Tell whether a name is a file's own, without folders."""
    return bool(name) and name not in (".", "..") and not any(c in name for c in "/\\\0")


def is_label(value: object) -> bool:
    """Tell whether a JSON value is a label: text or an integer."""
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Tell whether a JSON value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def some(names: list[str]) -> str:
    """Return the first three names, and how many more there are."""
    shown = ", ".join(repr(n) for n in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
