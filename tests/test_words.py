"""One word, one thing: no two classes of different modules share a name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mambabench"


def named(tree: ast.Module) -> Iterator[str]:
    """Yield the classes of a module at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.name.lstrip("_")


def homes() -> dict[str, set[str]]:
    """Return the modules in which each name is given to a class."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(PACKAGE.rglob("*.py")):
        for name in named(ast.parse(path.read_text(encoding="utf-8"))):
            found[name].add(str(path.relative_to(PACKAGE)))
    return found


def test_one_name_is_one_thing() -> None:
    twice = {name: sorted(modules) for name, modules in homes().items() if len(modules) > 1}
    assert not twice, "\n".join(f"{name}: {', '.join(m)}" for name, m in sorted(twice.items()))
