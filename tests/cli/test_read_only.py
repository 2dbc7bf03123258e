"""Folders that cannot be written to cost their files, never a traceback and never the tables."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mambabench
from mambabench.benchmarks import demo

TASK = "demo_percussion-v1-demo"


def _obey_modes() -> None:
    """Have the system's permissions hold for root too: drop what lets it pass them by."""
    library = ctypes.CDLL(None)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        library.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def _run(arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mambabench", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=_obey_modes,
    )


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[Path]:
    """A folder with results of one seed and tasks, in which nothing can be written."""
    if not sys.platform.startswith("linux"):
        pytest.skip("root passes by the modes of files elsewhere")
    tasks = tmp_path / "tasks"
    demo.generate(tasks)
    out = tmp_path / "out"
    mambabench.run("logmel_stats", tasks, TASK, out, seeds=1, protocol="sound", jobs=1)
    for file in sorted((out / "report").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    (out / "report").rmdir()
    folders = [out, *(path for path in out.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield tmp_path
    for folder in folders:
        folder.chmod(0o755)


def test_every_verb_says_in_one_line_what_it_cannot_write(sealed: Path) -> None:
    here = ["--out", "out", "--task", TASK]
    more = ["--tasks", "tasks", "--jobs", "1"]
    for arguments in (
        ["extract", *here, *more, "--encoder", "ssam_tiny_random"],
        ["probe", *here, "--seeds", "2", "--protocol", "sound", "--jobs", "1"],
        ["run", *here, *more, "--encoder", "logmel_stats", "--seeds", "2"],
    ):
        done = _run(arguments, sealed)
        assert done.returncode == 2, (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        (line,) = [x for x in done.stderr.splitlines() if x.startswith("mambabench: ")]
        assert "Permission denied" in line
        assert "out" in line


@pytest.mark.parametrize("folder", [False, True], ids=["without report/", "with report/"])
def test_report_prints_its_table_all_the_same(sealed: Path, folder: bool) -> None:
    if folder:
        (sealed / "out").chmod(0o755)
        (sealed / "out" / "report").mkdir()
        (sealed / "out" / "report").chmod(0o555)
        (sealed / "out").chmod(0o555)
    done = _run(["report", "--out", "out"], sealed)
    assert done.returncode == 0, done.stderr
    assert "Protocol sound" in done.stdout
    assert "logmel_stats" in done.stdout
    (line,) = done.stderr.splitlines()
    assert "give --to DIR" in line
    elsewhere = _run(["report", "--out", "out", "--to", "mine"], sealed)
    assert elsewhere.returncode == 0
    assert elsewhere.stderr == ""
    assert (sealed / "mine" / "report.html").is_file()
    if folder:
        (sealed / "out" / "report").chmod(0o755)


def test_in_a_folder_that_is_read_only_nothing_is_begun(sealed: Path) -> None:
    done = _run(["run", "--seeds", "1", "--jobs", "1"], sealed / "out")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Permission denied" in done.stderr
