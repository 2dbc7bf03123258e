"""Full disks, folders that refuse, input and output errors, clocks: on every engine, and after it.

The n-th write, fsync, rename or file that is made fails; the command says so in one sentence, or
does without what was a courtesy, and the same command ends in the bytes of one that met nothing.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mambabench.errors import MambabenchError
from mambabench.extract import verb
from mambabench.extract.plan import Budget
from mambabench.probe.verb import probe
from mambabench.report.verb import report
from tests.engine.alone import Alone
from tests.engine.faults import OPERATIONS, Fault, disk

GIVEN: dict[str, Any] = {"jobs": 1, "device": "cpu", "engine": "local"}
CODES = (errno.ENOSPC, errno.EACCES, errno.EIO)
# where in a run of about 60 files the fault falls: first and last steps, and between
PLACES = (1, 3, 8, 21, 34)


def command(tasks: Path, out: Path) -> str:
    """Extract and probe; return the first thing that went wrong, or ""."""
    try:
        done = verb.extract("logmel_stats", tasks, out=out, **GIVEN)
        trained = probe(1, "linear", out=out, **GIVEN)
    except MambabenchError as error:
        return str(error)
    return "".join(f.reason for f in trained.failures) or ("failed" if done.failed else "")


def results(out: Path) -> dict[str, bytes]:
    """Return all that must be equal: without times, places and what is computed again."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
        and not path.name.endswith(("provenance.json", "audio-seen.json"))
        and path.relative_to(out).parts[0] in ("embeddings", "probes")
    }


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(verb.BUDGETS, "cpu", Budget(batch_s=1.0, shard_s=1.0))


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Say which engine works: this process, or workers that do not see the folder."""

    def choose(name: str) -> None:
        if name == "away":
            for module in ("extract.verb", "probe.verb", "engine.choice"):
                monkeypatch.setattr(f"mambabench.{module}.make_engine", lambda *a, **k: Alone())
            monkeypatch.setitem(GIVEN, "engine", "ray")

    return choose


@pytest.mark.parametrize("engine", ["here", "away"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_fault_of_the_disk_is_named_and_the_same_command_mends_it(
    task_of_noise: Path,
    tmp_path: Path,
    small_shards: None,
    engines: Callable[[str], None],
    engine: str,
    operation: str,
) -> None:
    engines(engine)
    whole = tmp_path / "whole"
    assert command(task_of_noise, whole) == ""
    wanted = results(whole)
    assert len(wanted) > 10
    n_named = 0
    for i, n in enumerate(PLACES):
        code, out = CODES[i % len(CODES)], tmp_path / f"{operation}-{n}"
        with disk(Fault(operation, n, code)) as fault:
            said = command(task_of_noise, out)
        assert fault.fired, f"there are no {n} of {operation}"
        if said:  # else it was a courtesy, such as a journal
            n_named += 1
            assert os.strerror(code) in said, f"{operation} {n}"
            assert "\n" not in said
        assert not list(out.rglob("*.tmp")), f"{operation} {n}"
        assert command(task_of_noise, out) == "", f"{operation} {n}"
        assert results(out) == wanted, f"{operation} {n}"
    assert n_named >= 3


@pytest.mark.parametrize("code", CODES)
def test_a_report_of_a_folder_that_refuses_is_printed_all_the_same(
    task_of_noise: Path, tmp_path: Path, code: int
) -> None:
    out = tmp_path / "out"
    assert command(task_of_noise, out) == ""
    wanted = report(out, "json")
    for path in (out / "report").rglob("*"):
        if path.is_file():
            path.unlink()
    with disk(Fault("create", 1, code, stays=True)):
        found = report(out, "json")
    assert found.text == wanted.text
    assert found.note is not None
    assert os.strerror(code) in found.note


def test_a_clock_that_goes_backwards_changes_nothing(
    task_of_noise: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    assert command(task_of_noise, whole) == ""
    now = [2e9]

    def clock() -> float:
        now[0] -= 3600.0  # an hour back at every look
        return now[0]

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", clock)
        patch.setattr(time, "time_ns", lambda: int(clock() * 1e9))
        assert command(task_of_noise, out) == ""
        for path in out.rglob("*"):  # files of the future
            if path.is_file():
                os.utime(path, (3e9, 3e9))
        before = results(out)
        assert command(task_of_noise, out) == ""
    assert results(out) == before == results(whole)
