"""A verb's name is its folder and its function: both work; the docs tell what does not."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

import mambabench

ROOT = Path(__file__).resolve().parent.parent
VERBS = ("extract", "probe", "report", "train")


def function_of(name: str) -> FunctionType:
    return getattr(importlib.import_module(f"mambabench.{name}.verb"), name)


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_is_a_package_that_can_be_called(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = getattr(mambabench, name)
    assert isinstance(package, ModuleType)
    assert package is sys.modules[f"mambabench.{name}"]
    assert inspect.signature(package) == inspect.signature(function_of(name))
    given: list[Any] = []

    def told(*args: object, **kwargs: object) -> str:
        given.append((args, kwargs))
        return "done"

    monkeypatch.setattr(f"mambabench.{name}.verb.{name}", told)
    assert package(1, out="here") == "done"
    assert given == [((1,), {"out": "here"})]


def test_importing_a_module_of_the_package_keeps_the_verb() -> None:
    """Python binds a submodule's name in its package at the first import of it."""
    code = (
        "import mambabench, mambabench.extract.settings\n"
        "from mambabench import extract\n"
        "assert callable(extract) and extract is mambabench.extract\n"
        "assert 'mambabench.extract.verb' not in __import__('sys').modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_documentation_says_what_surprises() -> None:
    text = " ".join((ROOT / "docs" / "api.md").read_text(encoding="utf-8").split())
    for name in VERBS:
        assert f"`{name}`" in text
    assert "packages that can be called" in text
    assert not inspect.isfunction(mambabench.extract)
    assert "`inspect.isfunction` says no" in text
    assert inspect.isfunction(function_of("extract"))
    assert "`mambabench.extract.verb.extract` is the function itself" in text
