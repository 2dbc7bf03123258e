"""The tool that plants faults: where they stand, which tests they meet, what comes of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent

SOURCE = '''"""Not a < b."""

from other import name

__all__ = ["f"]
TABLE: dict[str, int] = {"a": 3}


@decorated(size=4)
def f(x: int = 1, *, y: float = 0.5) -> int:
    """Return x > 1."""
    assert x >= 0
    if x < 2 and y:  # ümlaut
        raise ValueError("x is below " + str(2))
    total = x + len(f"{x - 1}")
    for i in range(total):
        total += sorted([i], reverse=True)[0]
    print(min(total, 9), zip([1], [2], strict=True))
    return -total if x else None


@njit
def g(x):
    return x * 2
'''


@pytest.fixture(scope="module")
def make() -> Any:
    sys.path.insert(0, str(ROOT / "perf"))
    try:
        import mutants_make
    finally:
        sys.path.pop(0)
    return mutants_make


@pytest.fixture(scope="module")
def running() -> Any:
    sys.path.insert(0, str(ROOT / "perf"))
    try:
        import mutants_run
    finally:
        sys.path.pop(0)
    return mutants_run


def test_faults_stand_where_the_product_decides_something(make: Any) -> None:
    source = SOURCE.encode()
    found = make.sites("m.py", source)
    planted = {(site.line, site.text) for site in found}
    assert {
        (6, "4"),
        (10, "2"),
        (10, "1.0"),
        (13, "not (x < 2 and y)"),
        (13, "(x < 2 or y)"),
        (13, "(x <= 2)"),
        (13, "(x > 2)"),
        (13, "3"),
        (15, "(x - len(f'{x - 1}'))"),
        (17, "pass"),
        (17, "total -= sorted([i], reverse=True)[0]"),
        (17, "list([i])"),
        (17, "sorted([i])"),
        (17, "False"),
        (17, "1"),
        (18, "pass"),
        (18, "max(total, 9)"),
        (18, "10"),
        (18, "2"),
        (18, "3"),
        (19, "return None"),
        (19, "(None if x else -total)"),
        (19, "(total)"),
        (24, "return None"),
        (24, "(x / 2)"),
        (24, "3"),
    } == planted
    assert {site.line for site in found if site.jitted} == {24}
    assert {site.line for site in found if site.importing} == {6, 10}
    for site in found:
        text = make.mutated(source, site)
        assert make.compiles(text)
        assert text != source
        assert len(text) - len(source) == len(site.text.encode()) - (site.stop - site.start)
    assert not make.compiles(b"def f(:")
    assert len({site.key(source) for site in found}) == len(found)
    assert found[0].key(source) != found[0].key(source + b"\n")


def _site(make: Any, line: int, **changes: Any) -> Any:
    values = {"file": "mambabench/a.py", "line": line, "last_line": line, "start": 0, "stop": 1}
    values |= {"kind": "constant", "text": "1", "jitted": False, "importing": False}
    return make.Site(**(values | changes))


def test_a_line_is_met_by_the_tests_that_execute_it_the_shortest_first(
    make: Any, running: Any
) -> None:
    baseline = running.Baseline(
        seconds={"t.py::slow": 9.0, "t.py::quick": 1.0, "u.py::one": 2.0, "u.py::two": 3.0},
        lines={"mambabench/a.py": {3: ["t.py::slow", "t.py::quick"], 4: ["setup|u.py::one"]}},
        users={"mambabench/a.py": ["u.py::two", "t.py::failing"]},
        failed=["t.py::failing"],
    )
    assert baseline.select(_site(make, 3), 60) == ["t.py::quick", "t.py::slow"]
    assert baseline.select(_site(make, 3), 5) == ["t.py::quick"]
    assert baseline.select(_site(make, 3), 0) == ["t.py::quick"]
    assert baseline.select(_site(make, 4), 60) == ["u.py::one", "u.py::two"]
    every = ["t.py::quick", "u.py::one", "u.py::two", "t.py::slow"]
    assert baseline.select(_site(make, 99), 60) == every
    assert baseline.select(_site(make, 3, importing=True), 60) == every
    assert baseline.select(_site(make, 3, jitted=True), 60) == every
    assert baseline.select(_site(make, 1, file="mambabench/b.py"), 60) == []


TOY = {
    "mambabench/__init__.py": "",
    "mambabench/probe/__init__.py": "",
    "mambabench/probe/rules.py": (
        "def larger(a, b):\n    return a if a > b else b\n\n\ndef unseen(a):\n    return a + 1\n"
    ),
    "tests/probe/test_rules.py": (
        "from mambabench.probe.rules import larger, unseen\n\nSEEN = []\n\n\n"
        "def test_larger():\n    assert larger(1, 2) == 2\n    assert larger(3, 2) == 3\n\n\n"
        "def test_unseen():\n    unseen(1)\n    SEEN.append(1)\n\n\n"
        "def test_only_after_another():\n    assert unseen(1) and SEEN\n"
    ),
}


@pytest.mark.slow
def test_a_run_goes_on_and_its_table_names_what_was_not_noticed(tmp_path: Path) -> None:
    pytest.importorskip("coverage", reason="the tool needs coverage: pip install '.[dev]'")
    root, work, results = tmp_path / "toy", tmp_path / "work", tmp_path / "results"
    for name, text in TOY.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    tool = [sys.executable, str(ROOT / "perf" / "mutants.py")]
    where = ["--root", str(root), "--work", str(work), "--results", str(results), "--n", "7"]

    def tried(*options: str) -> list[str]:
        done = subprocess.run(
            [*tool, "run", *where, "--cold", *options], capture_output=True, text=True, check=True
        )
        return [line for line in done.stdout.splitlines() if "/" in line.split()[0]]

    first = tried("--shard", "1/2")
    assert len(first) == 4
    assert tried("--shard", "1/2") == []
    second = tried("--shard", "2/2")
    assert len(second) == 3
    status = {}
    for path in sorted(work.glob("outcomes-*.jsonl")):
        for row in map(json.loads, path.read_text().splitlines()):
            status.setdefault((row["line"], row["status"]), []).append(row)
    # larger: > to >= changes nothing, > to <, swapped branches and None are noticed; unseen: its
    # test looks at nothing, so -, 2 and None are not
    assert {key: len(rows) for key, rows in status.items()} == {
        (2, "survived"): 1,
        (2, "killed"): 3,
        (6, "survived"): 3,
    }
    assert {row["by"] for row in status[2, "killed"]} == {"tests/probe/test_rules.py::test_larger"}
    assert (root / "mambabench/probe/rules.py").read_text() == TOY["mambabench/probe/rules.py"]
    failed = subprocess.run([*tool, "table", *where], capture_output=True, text=True)
    assert failed.returncode == 1
    assert "3 of 7 noticed: 42.9%" in failed.stdout
    text = (results / "mutants.md").read_text()
    assert "-    return a + 1\n+    return (a - 1)" in text
    body = json.loads((results / "mutants.json").read_text())
    assert body["total"]["noticed"] == 3
    assert len(body["outcomes"]) == 7
    # the table is enough to go on from: only what was not noticed is tried again
    shutil.rmtree(work)
    again = tried("--shard", "1/1")
    assert [line.split()[1] for line in again] == ["survived"] * 4


def test_a_fault_is_ended_by_processor_time_and_only_late_by_the_clock(
    tmp_path: Path, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless() -> int:
        while True:
            pass

    ended = running._forked(endless, tmp_path / "log", 1)
    assert ended.exceeded
    assert 0.9 <= ended.seconds < 3
    # a machine on which others run: the clock goes on, the processor's time does not
    ended = running._forked(lambda: time.sleep(1.5) or 3, tmp_path / "log", 1)
    assert (ended.code, ended.exceeded) == (3, False)
    assert ended.seconds < 1
    monkeypatch.setattr(running, "LEAST_WALL_S", 0)
    monkeypatch.setattr(running, "BUSY", 1.0)

    def waiting() -> int:
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).wait()
        return 0

    ended = running._forked(waiting, tmp_path / "log", 1)
    assert ended.code is None
    assert not ended.exceeded
    ended = running._forked(lambda: 1 // 0, tmp_path / "log", 30)
    assert ended.code == 70
    assert "ZeroDivisionError" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("with_fault", "without", "status"),
    [
        ((0, 1.0), None, "survived"),
        ((1, 1.0), None, "killed"),
        ((None, 1.0), None, "stalled"),
        ((-24, 90.0), (0, 1.0), "exceeded"),
        ((-24, 90.0), (-24, 90.0), "unsure"),
    ],
)
def test_what_exceeds_its_processor_time_counts_where_it_does_not_without_the_fault(
    with_fault: Any,
    without: Any,
    status: str,
    make: Any,
    running: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "tree/mambabench").mkdir(parents=True)
    planted = tmp_path / "tree/mambabench/a.py"
    planted.write_text("0\n")
    tree = running.Tree.__new__(running.Tree)
    tree.root, tree.folder = tmp_path, tmp_path / "tree"
    seen = []

    def forked(work: Any, log: Path, cpu_s: float) -> Any:
        seen.append((planted.read_text(), cpu_s))
        log.write_text("")
        return running._Ended(*(with_fault if len(seen) == 1 else without))

    monkeypatch.setattr(running, "_forked", forked)
    baseline = running.Baseline({"t": 4.0}, {"mambabench/a.py": {1: ["t"]}}, {}, [])
    outcome = running.try_mutant(tree, baseline, _site(make, 1), budget_s=30, folder=tmp_path)
    assert (outcome.status, outcome.seconds) == (status, with_fault[1])
    assert seen == [("1\n", 40.0), ("0\n", 40.0)][: 1 + (without is not None)]


def test_the_clock_alone_notices_nothing_and_is_tried_again() -> None:
    sys.path.insert(0, str(ROOT / "perf"))
    try:
        import mutants
    finally:
        sys.path.pop(0)
    rows = [
        {"status": status, "file": "mambabench/a.py"}
        for status in ("killed", "exceeded", "survived", "untested", "stalled", "unsure", "timeout")
    ]
    assert [mutants.noticed(row) for row in rows] == [True, True, *[False] * 5]
    counted = mutants._counted(rows, "mambabench/")
    assert (counted["n"], counted["noticed"], counted["undecided"]) == (7, 2, 3)


def test_the_sample_is_the_same_and_grows_at_its_end() -> None:
    tool = [sys.executable, str(ROOT / "perf" / "mutants.py"), "sample"]
    long, short = (
        subprocess.run([*tool, "--n", n], capture_output=True, text=True, check=True).stdout
        for n in ("310", "3")
    )
    assert long.startswith(short)
    assert long.count("--- mambabench/") == 310
    for area in ("probe", "report", "extract", "benchmarks/metrics"):
        assert f"--- mambabench/{area}/" in long
