"""Recipes: TOML files that name a published (or documented) experiment, row by row.

system = "mmml"
description = "what it is"
source = "which table of which publication"
[settings]            # of all rows
task = "mosi"
[[rows]]              # optional; each row is trained under the name "<recipe>-<row>"
name = "cc"
fusion = "cc"
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mambabench.errors import ProtocolError, nearest_names
from mambabench.package_data import package_data
from mambabench.reading.toml_files import read_toml
from mambabench.train.settings import SYSTEMS, Settings, resolve

__all__ = ["Recipe", "RecipeRow", "find_recipe", "parse_override", "read_recipe", "recipe_names"]


@dataclass(frozen=True)
class RecipeRow:
    """One experiment of a recipe: the name of its runs and its resolved settings."""

    name: str
    settings: Settings


@dataclass(frozen=True)
class Recipe:
    """A recipe with every row resolved."""

    name: str
    system: str
    description: str
    source: str
    rows: tuple[RecipeRow, ...]


def _folders() -> tuple[Path, ...]:
    return (Path("recipes"), package_data("recipes"))


def _is_recipe(path: Path) -> bool:
    """Tell whether a TOML file is a training recipe; the folder may hold others."""
    try:
        return read_toml(path).get("system") in SYSTEMS
    except ProtocolError:
        return False


def recipe_names() -> tuple[str, ...]:
    """Return the names of the training recipes that can be found, sorted."""
    found = {p.stem for folder in _folders() for p in folder.glob("*.toml") if _is_recipe(p)}
    return tuple(sorted(found))


def find_recipe(name: str) -> Path:
    """Return the file of a recipe: a path, or a name looked up in the recipes folders."""
    if name.endswith(".toml"):
        if Path(name).is_file():
            return Path(name)
        raise ProtocolError(f"recipe {name} does not exist")
    for folder in _folders():
        path = folder / f"{name}.toml"
        if path.is_file():
            return path
    raise ProtocolError(
        f"no recipe named {name!r}{nearest_names(name, recipe_names())}; give a name in recipes/ "
        "or the path of a .toml file"
    )


def read_recipe(path: Path, overrides: Mapping[str, Any], only: Sequence[str] = ()) -> Recipe:
    """Read and resolve a recipe; `overrides` win over the file, `only` chooses rows by name."""
    document = read_toml(path)
    known = ("system", "description", "source", "settings", "rows")
    for key in document:
        if key not in known:
            raise ProtocolError(f"{path}: no key {key!r}{nearest_names(key, known)}")
    system = document.get("system")
    if not isinstance(system, str) or system not in SYSTEMS:
        raise ProtocolError(f"{path}: system is {system!r}, not one of {', '.join(SYSTEMS)}")
    common = document.get("settings", {})
    rows = document.get("rows") or [{}]
    tables = isinstance(common, dict) and isinstance(rows, list)
    if not tables or not all(isinstance(row, dict) for row in rows):
        raise ProtocolError(f"{path}: settings and every row must be tables: [settings], [[rows]]")
    names = [row.get("name", "") for row in rows]
    for name in only:
        if name not in names:
            raise ProtocolError(
                f"{path}: no row {name!r}{nearest_names(name, names)}; rows: "
                f"{', '.join(n for n in names if n) or 'none is named'}"
            )
    resolved = []
    for row in rows:
        own = {key: value for key, value in row.items() if key != "name"}
        name = row.get("name", "")
        if only and name not in only:
            continue
        where = f"{path}{f', row {name}' if name else ''}"
        settings = resolve(SYSTEMS[system], {**common, **own, **overrides}, where)
        resolved.append(RecipeRow(f"{path.stem}-{name}" if name else path.stem, settings))
    return Recipe(
        path.stem,
        system,
        document.get("description", ""),
        document.get("source", ""),
        tuple(resolved),
    )


def parse_override(text: str) -> tuple[str, Any]:
    """Read KEY=VALUE: the value as TOML where it is one, else as text."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ProtocolError(f"--set {text!r}: write KEY=VALUE")
    try:
        parsed = tomllib.loads(f"value = {value.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    return key.strip(), parsed
