"""Objects of other packages: read, fenced, and never in the way."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from mambabench.errors import MambabenchError
from mambabench.plugins import Registry, resolve

OBJECTS = """
from mambabench.models.entry import EncoderEntry
from mambabench.benchmarks.family import TaskFamily

ENCODER = EncoderEntry("theirs", "theirs", "theirs_pkg:load", 3, 3, published=False, licence="MIT")
TAKEN = EncoderEntry("logmel_stats", "theirs", "theirs_pkg:load", 3, 3, licence="MIT")
FAMILY = TaskFamily("their_tasks", lambda: ())
"""


def install(site: Path, package: str, code: str, points: str) -> None:
    """Lay an installed package out below `site`, as pip would."""
    sys.modules.pop(package, None)
    (site / f"{package}.py").write_text(code)
    meta = site / f"{package}-1.0.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (meta / "entry_points.txt").write_text(points)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MAMBABENCH_PLUGINS", "1")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def registry(group: str = "numbers") -> Registry[int]:
    return Registry(group, int, {"one": 1, "two": "mambabench_two:TWO"})


def test_an_object_of_another_package_is_found(site: Path) -> None:
    install(site, "good", "THREE = 3\n", "[mambabench.numbers]\nthree = good:THREE\n")
    found = registry()
    assert list(found) == ["one", "two", "three"]
    assert len(found) == 3
    assert found["three"] == 3
    assert "three" in found
    assert "four" not in found
    with pytest.raises(KeyError):
        found["four"]


def test_a_built_in_may_be_a_string_and_is_imported_once(site: Path) -> None:
    (site / "mambabench_two.py").write_text("TWO = 2\n")
    assert registry()["two"] == 2
    assert resolve("mambabench_two:TWO") == 2


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import not_there\n", "ModuleNotFoundError: No module named 'not_there'"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("OTHER = 3\n", "AttributeError"),
        ("THREE = 'three'\n", "is no int, but str"),
    ],
)
def test_a_broken_one_is_a_warning_until_it_is_asked_for(site: Path, code: str, said: str) -> None:
    install(site, "broken", code, "[mambabench.numbers]\nthree = broken:THREE\n")
    found = registry()
    with pytest.warns(UserWarning, match=r"three = broken:THREE \(mambabench.numbers, from broken"):
        assert list(found) == ["one", "two"]
    with pytest.raises(MambabenchError, match=said) as caught:
        found["three"]
    assert "repair or remove the package broken" in str(caught.value)
    assert found["one"] == 1


def test_a_taken_name_is_refused(site: Path) -> None:
    install(site, "thief", "ONE = 100\n", "[mambabench.numbers]\none = thief:ONE\n")
    found = registry()
    with pytest.warns(UserWarning, match=r"one = thief:ONE .* is left out: the name is taken"):
        assert list(found) == ["one", "two"]
    assert found["one"] == 1


def test_a_name_that_two_packages_give_is_the_firsts(site: Path) -> None:
    install(site, "second", "N = 2\n", "[mambabench.numbers]\nn = second:N\n")
    install(site, "first", "N = 1\n", "[mambabench.numbers]\nn = first:N\n")
    found = registry()
    with pytest.warns(UserWarning, match="from second"):
        assert found["n"] == 1


def test_an_object_must_carry_the_name_of_its_entry_point(site: Path) -> None:
    code = "class Int(int):\n    name = 'other'\nTHREE = Int(3)\n"
    install(site, "named", code, "[mambabench.numbers]\nthree = named:THREE\n")
    with pytest.warns(UserWarning, match="calls itself 'other': give both one name"):
        assert list(registry()) == ["one", "two"]


def test_they_can_be_left_out(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "good", "THREE = 3\n", "[mambabench.numbers]\nthree = good:THREE\n")
    monkeypatch.setenv("MAMBABENCH_PLUGINS", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(registry()) == ["one", "two"]


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(site), "MAMBABENCH_PLUGINS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "mambabench", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=site,
        check=False,
    )


def test_the_command_line_lists_what_works_and_warns_of_the_rest(tmp_path: Path) -> None:
    points = "[mambabench.encoders]\ntheirs = good:ENCODER\nlogmel_stats = good:TAKEN\n"
    points += "[mambabench.tasks]\ntheir_tasks = good:FAMILY\n"
    install(tmp_path, "good", OBJECTS, points)
    broken = "[mambabench.encoders]\ngone = broken:ENTRY\n[mambabench.tasks]\ngone = broken:F\n"
    install(tmp_path, "broken", "import not_there\n", broken)
    models = run(tmp_path, "models", "list")
    assert models.returncode == 0, models.stderr
    assert "theirs" in models.stdout
    assert "logmel_stats" in models.stdout
    assert "gone = broken:ENTRY" in models.stderr
    assert "the name is taken" in models.stderr
    assert "Traceback" not in models.stderr
    tasks = run(tmp_path, "tasks", "list")
    assert tasks.returncode == 0, tasks.stderr
    assert "gone = broken:F" in tasks.stderr
    asked = run(tmp_path, "models", "show", "gone")
    assert asked.returncode == 2
    assert "No module named 'not_there'" in asked.stderr
    assert "Traceback" not in asked.stderr
