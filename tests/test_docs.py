"""The documentation names every option, links to what exists, and no file names this machine."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name

import click
import pytest

from mambabench.cli import VERBS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```", re.DOTALL)


def _commands(verb: str) -> Iterator[tuple[str, click.Command]]:
    command = import_module(f"mambabench.cli.{verb}").command
    yield verb, command
    if isinstance(command, click.Group):
        yield from ((f"{verb} {name}", part) for name, part in command.commands.items())


def _section(text: str, verb: str) -> str:
    """Return the section of a verb, from its heading to the next one of that level."""
    found = re.search(rf"^## {verb}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"docs/commands.md has no section '## {verb}'"
    return found.group(1)


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(plain.replace(" ", "-"))
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_documented(verb: str) -> None:
    section = _section((ROOT / "docs" / "commands.md").read_text(encoding="utf-8"), verb)
    for name, command in _commands(verb):
        assert f"mambabench {name}" in section, f"docs/commands.md does not show {name!r}"
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                for flag in parameter.opts:
                    shown = re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", section)
                    assert shown, f"docs/commands.md: {flag} of {name!r} is missing"


def test_no_option_is_documented_that_is_not_there() -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    for verb in VERBS:
        known = {o for _, c in _commands(verb) for p in c.params for o in p.opts}
        usage = CODE.search(_section(text, verb))
        assert usage, verb
        for flag in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", usage.group()):
            assert flag in known, f"docs/commands.md: {verb} has no {flag}"


def test_every_public_name_is_in_the_reference() -> None:
    import mambabench

    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^ +- (\w+)$", text, re.MULTILINE))
    named = re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)
    errors = {name for name in mambabench.__all__ if name.endswith("Error")}
    modules = {"tasks": "mambabench.benchmarks.tasks", "train": "mambabench.train.verb.train"}
    assert listed == {*mambabench.__all__} - errors - {"__version__", *modules}
    assert {*modules.values(), "mambabench.errors"} <= set(named)
    for name in named:
        assert resolve_name(name) is not None


def test_columns_of_load_results_are_documented() -> None:
    from mambabench.report.results import COLUMNS

    section = _section((ROOT / "docs" / "commands.md").read_text(encoding="utf-8"), "report")
    assert [c for c in COLUMNS if f"`{c}`" not in section] == []


@pytest.mark.parametrize(
    "page",
    [*(ROOT / n for n in ("README.md", "CONTRIBUTING.md", "recipes/README.md")), *PAGES],
    ids=lambda page: page.name,
)
def test_links_resolve(page: Path) -> None:
    for target in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}, which is not there"
        if anchor and file.suffix == ".md":
            assert anchor in _anchors(file), f"{page.name} links to {target}: no such heading"


def test_index_lists_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    linked = set(LINK.findall(index))
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES}
    assert pages - {"README.md"} <= linked


def test_the_site_lists_every_page() -> None:
    listed = set(re.findall(r"- docs/(\S+\.md)", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert {page.relative_to(ROOT / "docs").as_posix() for page in PAGES} == listed


def test_index_of_recipes_lists_every_recipe() -> None:
    index = (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
    for recipe in (ROOT / "recipes").glob("*.toml"):
        assert f"`{recipe.stem}`" in index


def test_no_file_names_the_machine_it_was_written_on() -> None:
    # at the start of a path only: a folder named "work" may lie anywhere
    forbidden = re.compile(rb"(?<![\w.>})\]*-])/(?:work/|tmp/bash_jobs)")
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: which files are tracked is not known")
    found = []
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if not name or not path.is_file():
            continue
        content = path.read_bytes()
        if b"\0" not in content[:8192] and forbidden.search(content):
            found.append(name)
    assert found == []
