"""Find the tests of every line, and run them on a tree with one fault in it.

Everything happens in a copy of the tree. One run of the tests under coverage, with a context per
test, tells which tests execute a line and how much processor time each takes. A mutant is then
tested in a forked process, in which the libraries are imported already, by the tests of its line
alone, the shortest first, to the first failure or to a limit of processor time, which a busy
machine does not shorten.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mutants_make import Site, mutated

__all__ = ["Baseline", "Outcome", "Tree", "measure", "passes_alone", "try_mutant", "warm_up"]

LIBRARIES = (
    *("numpy", "scipy.optimize", "scipy.stats", "scipy.ndimage", "scipy.signal", "pandas"),
    *("torch", "numba", "sklearn.linear_model", "sklearn.metrics", "sklearn.impute", "soundfile"),
    *("soxr", "click", "rich.progress", "safetensors", "pytest"),
)
MEMORY_BYTES = 16 << 30  # of a mutant: one that fills the memory ends itself
LEAST_WALL_S = 60
BUSY = 10.0  # wall time that a mutant may take, in its processor time: others run beside it
SETUP = "setup|"


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant."""

    # "killed", "exceeded" (the limit of processor time, which the tests keep without the fault),
    # "survived", "untested", or undecided: "unsure" (they exceed it without the fault too) or
    # "stalled" (by the clock alone)
    status: str
    seconds: float  # of processor time
    n_tests: int
    by: str  # the test that failed, where one is known


@dataclass(frozen=True)
class Baseline:
    """What the tests execute: of a tree without a fault."""

    seconds: dict[str, float]  # passed test -> its processor time
    lines: dict[str, dict[int, list[str]]]  # file -> line -> contexts
    users: dict[str, list[str]]  # file -> contexts that import from it when they run
    failed: list[str]  # left out of every selection

    def select(self, site: Site, budget_s: float) -> list[str]:
        """Return the tests of a site, the shortest first, as many as the budget holds.

        Lines that run at the import, and those that no tracer sees, are tested by what executes
        anything of their file, or imports from it.
        """
        table = self.lines.get(site.file, {})
        seen: set[str] = set()
        if not (site.importing or site.jitted):
            seen = {c for n in range(site.line, site.last_line + 1) for c in table.get(n, ())}
        if not seen:
            seen = {context for contexts in table.values() for context in contexts}
            seen |= set(self.users.get(site.file, ()))
        tests = sorted(self._tests(seen), key=lambda test: (self.seconds[test], test))
        chosen, spent = [], 0.0
        for test in tests:
            spent += self.seconds[test]
            if chosen and spent > budget_s:
                break
            chosen.append(test)
        return chosen

    def _tests(self, contexts: Iterable[str]) -> set[str]:
        """Return the tests of contexts; what a fixture executes counts for its whole file."""
        tests: set[str] = set()
        for context in contexts:
            if context.startswith(SETUP):
                file = context.removeprefix(SETUP).partition("::")[0]
                tests |= {test for test in self.seconds if test.partition("::")[0] == file}
            else:
                tests.add(context)
        return tests & self.seconds.keys()


class Tree:
    """A copy of the repository in which faults are planted, one at a time."""

    def __init__(self, root: Path, folder: Path) -> None:
        """Copy what git lists of `root` to `folder`, or use what is there."""
        self.root, self.folder = root, folder
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        found = subprocess.run(listed, cwd=root, capture_output=True, check=True).stdout
        for name in sorted(found.decode().split("\0")):
            source, target = root / name, folder / name
            if not name or not source.is_file():
                continue
            if target.exists() and target.read_bytes() == source.read_bytes():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)

    @contextlib.contextmanager
    def planted(self, site: Site) -> Iterator[None]:
        """Have the fault in place, and afterwards the file and its compiled kernels as before."""
        path = self.folder / site.file
        source, times = path.read_bytes(), path.stat()
        kernels = {p: p.read_bytes() for p in self._kernels(path)}
        path.write_bytes(mutated(source, site))
        try:
            yield
        finally:
            path.write_bytes(source)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            for left in self._kernels(path):
                left.unlink()
            for kernel, content in kernels.items():
                kernel.write_bytes(content)

    def _kernels(self, path: Path) -> list[Path]:
        return sorted((path.parent / "__pycache__").glob(f"{path.stem}.*.nb[ic]"))


def warm_up() -> None:
    """Import what the tests import, so that no mutant has to."""
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


class _Ended(NamedTuple):
    code: int | None  # None: stopped by the clock
    seconds: float  # of processor time, with the processes that it waited for

    @property
    def exceeded(self) -> bool:
        """Whether it took more processor time than it may."""
        return self.code == -signal.SIGXCPU


def _forked(work: Callable[[], int], log: Path, cpu_s: float) -> _Ended:
    """Run `work` in a process and a process group of its own, to its limit of processor time.

    A process that it starts has the same limit. By the clock it may take `BUSY` times as long, and
    `LEAST_WALL_S`: it may wait for something that never comes.
    """
    started = time.monotonic()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.setsid()
            limit = max(1, round(cpu_s))
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 60))
            with log.open("wb") as output:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
            code = work()
        except BaseException:
            with log.open("a") as file:
                traceback.print_exc(file=file)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    done, status, used = 0, 0, None
    while not done and time.monotonic() - started < LEAST_WALL_S + BUSY * cpu_s:
        time.sleep(0.02)
        done, status, used = os.wait4(pid, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # with what the tests have started
    code = os.waitstatus_to_exitcode(status) if done else None
    if used is None or not done:
        used = os.wait4(pid, 0)[2]
    return _Ended(code, used.ru_utime + used.ru_stime)


def _pytest(tree: Tree, arguments: Sequence[str], plugins: Sequence[Any] = ()) -> int:
    """Run pytest on the tree, in this process."""
    import pytest

    os.chdir(tree.folder)
    sys.path.insert(0, str(tree.folder))
    sys.dont_write_bytecode = True
    material = {
        "MAMBABENCH_GOLDENS": tree.root.parent / "shared" / "goldens",
        "MAMBABENCH_TEST_DATA": tree.root.parent / "shared" / "data",
    }
    for name, folder in material.items():
        if folder.is_dir():
            os.environ.setdefault(name, str(folder))
    os.environ.update(PYTHONPATH=str(tree.folder), PYTHONDONTWRITEBYTECODE="1")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    arguments = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore::pytest.PytestAssertRewriteWarning",
        *arguments,
    ]
    return int(pytest.main(arguments, plugins=list(plugins)))


class _Contexts:
    """A pytest plugin: tells coverage which test runs, and notes processor times and failures."""

    def __init__(self, coverage: Any) -> None:
        self._coverage = coverage
        self.seconds: dict[str, float] = defaultdict(float)
        self.failed: set[str] = set()
        self._started = 0.0

    def pytest_runtest_logstart(self) -> None:
        self._started = sum(os.times()[:4])

    def pytest_runtest_setup(self, item: Any) -> None:
        self._coverage.switch_context(SETUP + item.nodeid)

    def pytest_runtest_call(self, item: Any) -> None:
        self._coverage.switch_context(item.nodeid)

    def pytest_runtest_teardown(self, item: Any) -> None:
        self._coverage.switch_context(SETUP + item.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.seconds[nodeid] += sum(os.times()[:4]) - self._started
        self._coverage.switch_context("")

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed or report.skipped:
            self.failed.add(report.nodeid)


def measure(tree: Tree, tests: Sequence[str], folder: Path, cpu_s: float) -> Baseline:
    """Run the tests once under coverage; kept in `folder` for the same tree and tests."""
    told = hashlib.sha256(" ".join(tests).encode())
    for path in sorted((*tree.folder.glob("mambabench/**/*.py"), *tree.folder.glob("tests/**/*"))):
        if path.is_file() and "__pycache__" not in path.parts:
            told.update(str(path.relative_to(tree.folder)).encode() + path.read_bytes())
    kept = folder / f"baseline-{told.hexdigest()[:16]}.json"
    if not kept.exists():
        code, seconds = _forked(
            lambda: _measured(tree, tests, kept), folder / "baseline.log", cpu_s
        )
        if code not in (0, 1) or not kept.exists():
            raise SystemExit(f"the tests did not come to an end: see {folder / 'baseline.log'}")
        print(f"tests under coverage: {seconds:.0f} s of processor time", flush=True)
    body = json.loads(kept.read_text())
    names: list[str] = body["contexts"]
    lines = {
        file: {int(n): [names[i] for i in found] for n, found in table.items()}
        for file, table in body["lines"].items()
    }
    return Baseline(body["seconds"], lines, _users(tree, lines), body["failed"])


def _measured(tree: Tree, tests: Sequence[str], kept: Path) -> int:
    import coverage

    package = tree.folder / "mambabench"
    measuring = coverage.Coverage(data_file=None, source=[str(package)], config_file=False)
    plugin = _Contexts(measuring)
    measuring.start()
    code = _pytest(tree, tests, [plugin])
    measuring.stop()
    data = measuring.get_data()
    names: dict[str, int] = {}
    lines: dict[str, dict[int, list[int]]] = {}
    for file in data.measured_files():
        table = {
            line: [names.setdefault(c, len(names)) for c in contexts if c]
            for line, contexts in data.contexts_by_lineno(file).items()
        }
        lines[str(Path(file).relative_to(tree.folder))] = {n: c for n, c in table.items() if c}
    good = {t: s for t, s in plugin.seconds.items() if t not in plugin.failed}
    body = {"seconds": good, "failed": sorted(plugin.failed), "contexts": list(names)}
    kept.write_text(json.dumps({**body, "lines": lines}))
    return code


def _users(tree: Tree, lines: dict[str, dict[int, list[str]]]) -> dict[str, list[str]]:
    """Return, by file, the contexts of the files that import from it: of its import where that is
    in a function, else of anything there."""
    users: dict[str, set[str]] = defaultdict(set)
    # no tracer sees them run, and they are imported once: by whoever names them
    compiled = sorted((tree.folder / "mambabench").rglob("*kernels.py"))
    for file, table in lines.items():
        text = (tree.folder / file).read_text().splitlines()
        for number, line in enumerate(text, 1):
            words = line.split()
            if len(words) > 2 and words[0] == "from" and words[1].startswith("mambabench."):
                inside = line[0] == " "
                found = table.get(number, []) if inside else [c for v in table.values() for c in v]
                package = words[1].replace(".", "/")
                for target in (package, *(f"{package}/{word.strip('(),')}" for word in words[3:])):
                    users[f"{target}.py"].update(found)
            named = set(re.findall(r"\w+", line))
            for path in compiled:
                if path.stem in named:
                    users[str(path.relative_to(tree.folder))].update(table.get(number, []))
    return {file: sorted(found) for file, found in users.items()}


def try_mutant(
    tree: Tree, baseline: Baseline, site: Site, *, budget_s: float, folder: Path
) -> Outcome:
    """Run the tests of a site on the tree with its fault."""
    tests = baseline.select(site, budget_s)
    if not tests:
        return Outcome("untested", 0.0, 0, "")
    expected = sum(baseline.seconds[test] for test in tests)
    compiling = (
        120.0
        if site.jitted
        or list((tree.folder / site.file).parent.glob(f"__pycache__/{Path(site.file).stem}.*.nbi"))
        else 0.0
    )
    log = folder / "mutant.log"

    def tested() -> _Ended:
        limit_s = 20 + compiling + 5 * expected
        return _forked(lambda: _pytest(tree, ["-x", "--no-header", *tests]), log, limit_s)

    with tree.planted(site):
        ended = tested()
    failed = ""
    if ended.code is None:
        status = "stalled"
    elif ended.exceeded:
        status = "unsure" if tested().exceeded else "exceeded"
    elif ended.code in (0, 5):
        status = "survived"
    else:
        status, failed = "killed", _failed(log)
    return Outcome(status, ended.seconds, len(tests), failed)


def passes_alone(tree: Tree, baseline: Baseline, test: str, folder: Path) -> bool:
    """Say whether a test passes by itself on the tree without a fault: one that does not tells
    nothing about a fault either."""
    arguments = ["-x", "--no-header", test]
    limit_s = 150 + 5 * baseline.seconds.get(test, 0.0)
    return _forked(lambda: _pytest(tree, arguments), folder / "alone.log", limit_s).code == 0


def _failed(log: Path) -> str:
    for line in log.read_text(errors="replace").splitlines():
        if line.startswith(("FAILED ", "ERROR ")):
            return line.split(" - ")[0].split(" ", 1)[1]
    return ""
