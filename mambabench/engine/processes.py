"""Run units of work in processes of their own, so that they share neither thread nor fault.

A worker is a fresh interpreter that reads units as lines of JSON and answers in lines of JSON. It
imports the unit's function by name, not the caller's script, so it works from any script, notebook
or pipe. It ends when its parent does, and leaves the interrupt to its parent.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from mambabench.engine.units import (
    MOST_ATTEMPTS,
    Crew,
    Lost,
    Spec,
    Unit,
    answered,
    resolve_function,
    results_of,
    told_error,
)
from mambabench.errors import MambabenchError

__all__ = ["LocalEngine", "run_beside", "run_units", "serve"]

Report = Callable[[Any], None]
_HINT = " (out of memory perhaps: give fewer --jobs)"

_START = """
import json, sys, warnings
warnings.formatwarning = lambda message, *_: f"warning: {message}\\n"
sys.path[:] = json.loads(sys.stdin.readline())
from mambabench.engine.processes import serve
serve()
"""


class LocalEngine:
    """Processes of this machine; one job alone runs in this very process."""

    shares_out = True

    def __init__(
        self,
        jobs: int,
        *,
        setups: Sequence[Spec] = ({},),
        timeout_s: float | None = None,
        separate: bool = False,
    ) -> None:
        """Worker i is told ``setups[i % len(setups)]``, whose keys are added to its units.

        A unit that takes longer than `timeout_s` is lost at once: it would hang again. With
        `separate` one job, too, has a process of its own, whose death is survived.
        """
        self._jobs = max(1, jobs)
        self._setups = setups
        self._timeout_s = timeout_s
        self._separate = separate or timeout_s is not None

    def run(
        self,
        function: str,
        units: Iterable[Unit],
        *,
        attempts: int = MOST_ATTEMPTS,
        on_report: Report = lambda report: None,
        on_crew: Callable[[Crew], None] = lambda crew: None,
    ) -> Iterator[tuple[int, Any]]:
        """Yield (index, result) as `Engine.run` says."""
        if self._jobs == 1 and not self._separate:
            yield from self._here(function, units, on_report)
            return
        crowd = _Crowd(function, self._setups, attempts, self._timeout_s, on_report)
        try:
            yield from crowd.work(units, self._jobs)
        finally:
            crowd.stop()

    def _here(
        self, function: str, units: Iterable[Unit], on_report: Report
    ) -> Iterator[tuple[int, Any]]:
        call = resolve_function(function)
        for index, unit in enumerate(units):
            try:
                result = call({**unit.spec, **self._setups[0]}, on_report)
            except MambabenchError as error:
                result = error
            yield index, result

    def close(self) -> None:
        """Nothing outlives a run."""


def run_units(
    function: str,
    units: Iterable[Spec],
    *,
    jobs: int,
    setups: Sequence[Spec] = ({},),
    on_report: Report = lambda report: None,
) -> Iterator[tuple[int, Any]]:
    """Yield (index, result) of units on this machine; the first that fails or is lost is raised."""
    engine = LocalEngine(jobs, setups=setups)
    return results_of(engine, function, (Unit(spec) for spec in units), on_report=on_report)


@contextlib.contextmanager
def run_beside(function: str, spec: Spec) -> Iterator[Callable[[], Any]]:
    """Begin a unit in a process of its own; what is given waits for its result.

    That is None where the unit failed or its process died: do it here then, or meet its error. At
    the end of the context the process is ended, whatever it is doing.
    """
    inbox: queue.Queue[tuple[_Worker, Any]] = queue.Queue()
    worker = _Worker(function, {})
    try:
        worker.listen(inbox)
        with contextlib.suppress(BrokenPipeError):  # its end is told by its listener
            worker.send(spec)
        yield lambda: _result_of(inbox)
    finally:
        worker.stop()


def _result_of(inbox: queue.Queue[tuple[_Worker, Any]]) -> Any:
    while True:
        _, answer = inbox.get()
        if answer is None or "report" not in answer:
            return None if answer is None else answer.get("result")


class _Crowd:
    """Worker processes, the units in their hands, and those that lost their worker."""

    def __init__(
        self,
        function: str,
        setups: Sequence[Spec],
        attempts: int,
        timeout_s: float | None,
        on_report: Report,
    ) -> None:
        self._function, self._setups = function, setups
        self._attempts, self._timeout_s = attempts, timeout_s
        self._on_report = on_report
        self._inbox: queue.Queue[tuple[_Worker, Any]] = queue.Queue()
        self._workers: list[_Worker] = []
        self._in_hand: dict[_Worker, tuple[int, Unit]] = {}
        self._deadlines: dict[_Worker, float] = {}
        self._again: deque[tuple[int, Unit]] = deque()
        self._deaths: dict[int, int] = {}
        self._todo: Iterator[tuple[int, Unit]] = iter(())

    def work(self, units: Iterable[Unit], jobs: int) -> Iterator[tuple[int, Any]]:
        self._todo = iter(enumerate(units))
        for i in range(jobs):
            self._hire(self._setups[i % len(self._setups)])
        while self._in_hand:
            message = self._next_message()
            if message is None:
                yield from self._late()
                continue
            worker, answer = message
            if worker not in self._in_hand:
                continue  # it was let go
            if answer is None:
                yield from self._died(worker, _cause(worker))
            elif "report" in answer:
                self._on_report(answer["report"])
            else:
                index, _ = self._in_hand.pop(worker)
                self._deadlines.pop(worker, None)
                result = told_error(answer) if "error" in answer else answer["result"]
                self._give(worker)
                yield index, result

    def _hire(self, setup: Spec) -> None:
        following = self._following()
        if following is None:
            return
        worker = _Worker(self._function, setup)
        self._workers.append(worker)
        worker.listen(self._inbox)
        self._hand(worker, following)

    def _following(self) -> tuple[int, Unit] | None:
        return self._again.popleft() if self._again else next(self._todo, None)

    def _give(self, worker: _Worker) -> None:
        following = self._following()
        if following is not None:
            self._hand(worker, following)

    def _hand(self, worker: _Worker, numbered: tuple[int, Unit]) -> None:
        self._in_hand[worker] = numbered
        if self._timeout_s is not None:
            self._deadlines[worker] = time.monotonic() + self._timeout_s
        with contextlib.suppress(BrokenPipeError):  # its end is told by its listener
            worker.send(numbered[1].spec)

    def _next_message(self) -> tuple[_Worker, Any] | None:
        """Return the next answer, or None when a unit is late."""
        if not self._deadlines:
            return self._inbox.get()
        rest = min(self._deadlines.values()) - time.monotonic()
        try:
            return self._inbox.get(timeout=max(rest, 0.0))
        except queue.Empty:
            return None

    def _late(self) -> Iterator[tuple[int, Any]]:
        now = time.monotonic()
        for worker in [w for w, end in self._deadlines.items() if end <= now]:
            worker.process.kill()
            index, _ = self._in_hand[worker]
            self._deaths[index] = self._attempts
            yield from self._died(worker, f"it took longer than {self._timeout_s:g} s (--timeout)")

    def _died(self, worker: _Worker, cause: str) -> Iterator[tuple[int, Any]]:
        """Begin the unit of a dead worker again, or tell that it is lost; hire another."""
        index, unit = self._in_hand.pop(worker)
        self._deadlines.pop(worker, None)
        self._workers.remove(worker)
        worker.stop()
        self._deaths[index] = self._deaths.get(index, 0) + 1
        lost = self._deaths[index] >= self._attempts
        if not lost:
            self._again.append((index, unit))
        self._hire(worker.setup)
        if lost:
            yield index, Lost(cause)

    def stop(self) -> None:
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.stop()


class _Worker:
    """One child interpreter."""

    def __init__(self, function: str, setup: Spec) -> None:
        self.setup = setup
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        with contextlib.suppress(BrokenPipeError):
            self._write([str(path) for path in sys.path])
            self._write(function)

    def send(self, spec: Spec) -> None:
        self._write({**spec, **self.setup})

    def _write(self, value: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(value) + "\n")
        self.process.stdin.flush()

    def listen(self, inbox: queue.Queue[tuple[_Worker, Any]]) -> None:
        """Put every answer into `inbox`, and None when the worker has ended."""
        assert self.process.stdout is not None
        lines = self.process.stdout

        def forward() -> None:
            with contextlib.suppress(ValueError):  # a line cut off by its death, or closed
                for line in lines:
                    inbox.put((self, json.loads(line)))
            inbox.put((self, None))

        threading.Thread(target=forward, daemon=True).start()

    def terminate(self) -> None:
        """Ask it to end."""
        if self.process.poll() is None:
            self.process.terminate()

    def stop(self) -> None:
        """End the worker, whatever it is doing: units are idempotent."""
        self.terminate()
        try:
            self.process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def _cause(worker: _Worker) -> str:
    code = worker.process.wait()
    cause = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"a worker process ended with {cause}{_HINT if code == -9 else ''}"


def serve() -> None:
    """Answer units from standard input until it is closed: the life of a worker."""
    import os
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a provider prints must not get between the answers

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    function = json.loads(sys.stdin.readline() or '""')
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more
        for line in sys.stdin:
            answer(answered(function, json.loads(line), lambda report: answer({"report": report})))
