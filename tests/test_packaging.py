"""A wheel holds all that a run needs, wherever it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mambabench.package_data import package_data

ROOT = Path(__file__).resolve().parent.parent
ASK = """
from mambabench.package_data import package_data
print(*sorted(f.name for d in ("recipes", "published") for f in package_data(d).iterdir()))
import mambabench
print(mambabench.__file__)
"""


def pip(*arguments: str, python: str = sys.executable, **environment: str) -> None:
    command = [python, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | environment
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    kept = ("mambabench", "recipes", "results/published")
    for part in kept:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, source / part, ignore=ignored)
    for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source / file)
    pip("wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(folder), str(source))
    (built,) = folder.glob("*.whl")
    return built


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    """Scripts and styles of the page too: without them an installed report has no page."""
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    package = ROOT / "mambabench"
    there = {
        path.relative_to(ROOT).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in there if name.endswith((".js", ".css", ".toml"))}
    assert there <= packed, sorted(there - packed)


def listed(python: str, cwd: Path, **environment: str) -> tuple[set[str], Path]:
    done = subprocess.run(
        [python, "-c", ASK],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
        env=os.environ | environment,
    )
    names, file = done.stdout.splitlines()
    return set(names.split()), Path(file)


def expected() -> set[str]:
    recipes = {f.name for f in (ROOT / "recipes").iterdir() if f.suffix in (".toml", ".md")}
    published = {f.name for f in (ROOT / "results" / "published").iterdir()}
    return {name for name in recipes | published if name.endswith((".toml", ".csv", ".md"))}


@pytest.mark.slow
def test_a_wheel_carries_recipes_and_published_rows(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    pip("install", "--no-deps", "--no-index", "-q", "--target", str(target), str(wheel))
    names, file = listed(sys.executable, tmp_path, PYTHONPATH=str(target))
    assert file.is_relative_to(target)
    assert names == expected()


@pytest.mark.slow
def test_a_user_installation_carries_them_too(wheel: Path, tmp_path: Path) -> None:
    python = getattr(sys, "_base_executable", sys.executable)  # outside a virtual environment
    base = {"PYTHONUSERBASE": str(tmp_path / "user"), "PIP_BREAK_SYSTEM_PACKAGES": "1"}
    options = ("--user", "--no-deps", "--no-index", "-q", "--ignore-installed")
    pip("install", *options, str(wheel), python=python, **base)
    names, file = listed(python, tmp_path, **base)
    assert file.is_relative_to(tmp_path / "user")
    assert names == expected()


def test_a_checkout_reads_its_own() -> None:
    assert package_data("recipes") == ROOT / "recipes"
    assert package_data("published") == ROOT / "results" / "published"
