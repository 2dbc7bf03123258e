"""Who may import whom: rooms stand on floors, arrows go down, no circles, few hidden imports."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mambabench"
# floor by floor from the ground; rooms of one floor do not know each other
FLOORS = (
    ("errors", "package_data", "callable_package", "subnormals"),
    ("reading", "plugins"),
    ("files", "settings"),
    ("selfhash", "benchmarks", "engine"),
    ("models",),
    ("hear_api", "acquire", "provenance"),
    ("store",),
    ("extract", "probe", "report"),
    ("experiment",),
    ("preflight",),
    ("train", "pipeline", "verification", "in_memory", "status"),
    ("cli",),
    ("__main__",),
)
# where imports may stand inside functions: what must answer in a blink, or is named by strings
LAZY_ROOMS = ("__init__", "cli")
LAZY_LIMIT = 20  # elsewhere: what takes numba, torch or a plotting library along


@cache
def modules() -> dict[str, Path]:
    """Return the dotted name of every module of the package, and its file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def targets(node: ast.AST) -> Iterator[str]:
    """Yield the modules of the package that an import statement names."""
    known = modules()
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mambabench"):
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            yield inner if inner in known else str(node.module)
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in known)


@cache
def arrows() -> dict[str, frozenset[str]]:
    """Return what each module imports, wherever in it the import stands."""
    found = {}
    for module, path in modules().items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found[module] = frozenset(t for n in ast.walk(tree) for t in targets(n)) - {module}
    return found


def test_every_room_has_its_floor() -> None:
    rooms = {room(module) for module in modules()} - {"__init__"}
    assert rooms == {name for floor in FLOORS for name in floor}


def test_arrows_go_down() -> None:
    height = {name: i for i, floor in enumerate(FLOORS) for name in floor}
    wrong = [
        f"{module} -> {target}"
        for module, found in arrows().items()
        if room(module) != "__init__"  # the front door, which imports at the first use
        for target in found
        if room(target) not in ("__init__", room(module))
        and height[room(target)] >= height[room(module)]
    ]
    assert not wrong, "\n".join(wrong)


def test_there_are_no_circles() -> None:
    """Peel off what imports nothing that is left; what cannot be peeled stands in a circle."""
    left = {m: {t for t in found if room(t) != "__init__"} for m, found in arrows().items()}
    del left["mambabench"]
    while free := [m for m, found in left.items() if not found & left.keys()]:
        for module in free:
            del left[module]
    assert not left, "\n".join(f"{m} -> {sorted(t & left.keys())}" for m, t in left.items())


def lazy_imports() -> list[str]:
    """Return every import of the package inside a function, as "module:line"."""
    found = []
    for module, path in modules().items():
        for outer in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef):
                found += [f"{module}:{n.lineno}" for n in ast.walk(outer) if any(targets(n))]
    return sorted(set(found))


def test_imports_stand_at_the_top() -> None:
    hidden = [line for line in lazy_imports() if room(line.split(":")[0]) not in LAZY_ROOMS]
    assert len(hidden) < LAZY_LIMIT, "\n".join(hidden)


def test_the_page_on_the_architecture_names_every_room() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = dict(re.findall(r"^\| `([a-z_]+)(/|\.py)` \|", text, re.MULTILINE))
    assert named.keys() == {name for floor in FLOORS for name in floor} - {"__main__"}
    for name, ending in named.items():
        assert (PACKAGE / (name + ending)).exists(), f"{name}{ending}"
    below = re.findall(r"`([a-z_]+)/`", text)
    there = {path.name for path in PACKAGE.rglob("*") if path.is_dir()}
    assert there.issuperset(below), set(below) - there


def test_no_module_is_long() -> None:
    """Numba's cache notices edits in the defining file only, so kernels stay in one file."""
    long = {
        module
        for module, path in modules().items()
        if len(path.read_text(encoding="utf-8").splitlines()) > 400
        and not module.endswith("kernels")
    }
    assert not long


# aliases of one meaning, which each module of numbers writes as its types are at hand; and torch's
# own words in train/optimise.py, a parameter group and a named parameter
EVERYWHERE = {"Array", "Arrays", "Group", "Named"}


def test_one_name_of_a_type_is_one_thing() -> None:
    """Two classes have two names, whatever underscore leads; aliases of one name are equal."""
    homes: dict[str, dict[str, str]] = defaultdict(dict)  # name -> module -> what it is
    for module, path in modules().items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                homes[node.name.lstrip("_")][module] = f"class of {module}"
        for node in tree.body:
            target = node.targets[0] if isinstance(node, ast.Assign) else None
            if isinstance(target, ast.Name) and isinstance(node, ast.Assign):
                name = target.id.lstrip("_")
                if name[:1].isupper() and name != name.upper():  # constants are in capitals
                    homes[name].setdefault(module, ast.unparse(node.value))
    twice = [
        f"{name}: {', '.join(sorted(found))}"
        for name, found in sorted(homes.items())
        if len(set(found.values())) > 1 and name not in EVERYWHERE
    ]
    assert not twice, "\n".join(twice)
