"""Units in processes of their own: results, reports, faults, the end of the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mambabench
from mambabench.engine.processes import run_units
from mambabench.errors import DataError, MambabenchError

UNITS = """
import os, sys, time
from mambabench.errors import DataError

def square(unit, report):
    print("noise on standard output")
    report(unit["n"])
    return [unit["n"] ** 2, unit.get("device"), os.getpid()]

def fail(unit, report):
    if unit["n"] == 2:
        raise DataError("clip two is bad")
    if unit["n"] == 3:
        raise KeyError("surprise")
    if unit["n"] == 4:
        os._exit(7)
    return 0

def slow(unit, report):
    open(unit["path"], "w").write(str(os.getpid()))
    time.sleep(60)
"""


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a module of unit functions where this process can import it."""
    (tmp_path / "some_units.py").write_text(UNITS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "some_units"


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_and_reports(units: str, jobs: int) -> None:
    reports: list[int] = []
    found = dict(
        run_units(
            f"{units}:square", ({"n": n} for n in range(5)), jobs=jobs, on_report=reports.append
        )
    )
    assert {index: result[0] for index, result in found.items()} == {n: n * n for n in range(5)}
    assert sorted(reports) == list(range(5))
    pids = {result[2] for result in found.values()}
    assert (os.getpid() in pids) == (jobs == 1)


def test_workers_have_settings_of_their_own(units: str) -> None:
    setups = [{"device": "cuda:0"}, {"device": "cuda:1"}]
    results = [
        result
        for _, result in run_units(
            f"{units}:square", [{"n": n} for n in range(2)], jobs=2, setups=setups
        )
    ]
    assert {result[1] for result in results} == {"cuda:0", "cuda:1"}


@pytest.mark.parametrize(
    ("n", "kind", "text"),
    [
        (2, DataError, "^clip two is bad$"),
        (3, RuntimeError, "(?s)a worker failed:.*KeyError: 'surprise'"),
        (4, MambabenchError, "worker process ended with exit code 7"),
    ],
)
def test_faults_of_units_are_raised_here(
    units: str, n: int, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        list(run_units(f"{units}:fail", [{"n": 1}, {"n": n}, {"n": 1}], jobs=2))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait(condition: Callable[[], Any]) -> bool:
    end = time.monotonic() + 30
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def test_leaving_early_ends_the_workers(units: str, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = (
        "import sys, threading\n"
        f"sys.path[:0] = [{str(Path(mambabench.__file__).parent.parent)!r}, {str(tmp_path)!r}]\n"
        "from mambabench.engine.processes import run_units\n"
        f"list(run_units('some_units:slow', [{{'path': {str(note)!r}}}] * 2, jobs=2))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    assert wait(lambda: note.exists() and note.read_text())
    worker = int(note.read_text())
    assert alive(worker)
    parent.send_signal(signal.SIGINT)
    parent.wait(timeout=30)
    assert wait(lambda: not alive(worker))


def test_a_process_that_was_forked_after_hashing_can_hash(tmp_path: Path) -> None:
    """Threads do not come along at a fork: a pool kept from before would never answer."""
    import os
    import signal

    from mambabench.store.plan import PlannedClip
    from mambabench.store.sources import _hashed

    (tmp_path / "a.wav").write_bytes(b"x")
    clip = PlannedClip(0, "a.wav", str(tmp_path / "a.wav"), 1, 1, None, None)
    wanted = dict(_hashed([clip]))
    number = os.fork()
    if not number:
        signal.alarm(20)
        os._exit(0 if dict(_hashed([clip])) == wanted else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == 0
