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
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from typing import Any

import mambabench.errors
from mambabench.errors import MambabenchError

__all__ = ["Unit", "run_units", "serve"]

Unit = dict[str, Any]  # JSON-able
Report = Callable[[Any], None]

_START = """
import json, sys, warnings
warnings.formatwarning = lambda message, *_: f"warning: {message}\\n"
sys.path[:] = json.loads(sys.stdin.readline())
from mambabench.engine.processes import serve
serve()
"""


def run_units(
    function: str,
    units: Iterable[Unit],
    *,
    jobs: int,
    setups: Sequence[Unit] = ({},),
    on_report: Callable[[Any], None] = lambda report: None,
) -> Iterator[tuple[int, Any]]:
    """Yield (index of the unit, what `function` returned), in the order of completion.

    `function` is "module:name" and is called as ``name(unit, report)``; unit, result and what it
    hands to ``report`` are JSON-able; units are drawn as they are given out. With ``jobs=1`` it
    runs here. Worker i is told ``setups[i % len(setups)]``, whose keys are added to its units. The
    first error of a unit ends the whole: a MambabenchError is raised as it was, another as
    RuntimeError with its traceback.
    """
    if jobs <= 1:
        call = _resolve(function)
        for index, unit in enumerate(units):
            yield index, call({**unit, **setups[0]}, on_report)
        return
    workers = [_Worker(function, setups[i % len(setups)]) for i in range(jobs)]
    try:
        yield from _distribute(workers, units, on_report)
    finally:
        for worker in workers:
            worker.stop()


def _distribute(
    workers: list[_Worker], units: Iterable[Unit], on_report: Callable[[Any], None]
) -> Iterator[tuple[int, Any]]:
    inbox: queue.Queue[tuple[_Worker, Any]] = queue.Queue()
    todo = iter(enumerate(units))
    in_hand: dict[_Worker, int] = {}

    def give(worker: _Worker) -> None:
        following = next(todo, None)
        if following is not None:
            in_hand[worker] = following[0]
            worker.send(following[1])

    for worker in workers:
        worker.listen(inbox)
        give(worker)
    while in_hand:
        worker, answer = inbox.get()
        if answer is None:
            if worker in in_hand:
                raise _death(worker)
        elif "report" in answer:
            on_report(answer["report"])
        elif "error" in answer:
            raise _error(answer)
        else:
            index = in_hand.pop(worker)
            give(worker)
            yield index, answer["result"]


class _Worker:
    """One child interpreter."""

    def __init__(self, function: str, setup: Unit) -> None:
        self._setup = setup
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._write([str(path) for path in sys.path])
        self._write(function)

    def send(self, unit: Unit) -> None:
        self._write({**unit, **self._setup})

    def _write(self, value: object) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(value) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise _death(self) from error

    def listen(self, inbox: queue.Queue[tuple[_Worker, Any]]) -> None:
        """Put every answer into `inbox`, and None when the worker has ended."""
        assert self.process.stdout is not None
        lines = self.process.stdout

        def forward() -> None:
            for line in lines:
                inbox.put((self, json.loads(line)))
            inbox.put((self, None))

        threading.Thread(target=forward, daemon=True).start()

    def stop(self) -> None:
        """End the worker, whatever it is doing: units are idempotent."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def _death(worker: _Worker) -> MambabenchError:
    code = worker.process.wait()
    cause = f"signal {-code}" if code < 0 else f"exit code {code}"
    hint = ", out of memory perhaps: give fewer --jobs" if code == -9 else ""
    return MambabenchError(
        f"a worker process ended with {cause}{hint}; the same command continues where it stopped"
    )


def _error(answer: dict[str, str]) -> Exception:
    kind = getattr(mambabench.errors, answer["error"], None)
    if kind is not None:
        error = kind(answer["text"])
        assert isinstance(error, MambabenchError)
        error.traceback = answer.get("traceback", "")
        if answer.get("notes"):
            error.add_note(answer["notes"])
        return error
    return RuntimeError(f"a worker failed:\n{answer['text']}")


def _resolve(function: str) -> Callable[[Unit, Report], Any]:
    module, _, name = function.partition(":")
    call: Callable[[Unit, Report], Any] = getattr(import_module(module), name)
    return call


def serve() -> None:
    """Answer units from standard input until it is closed: the life of a worker."""
    import os
    import signal
    import traceback

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a provider prints must not get between the answers

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    call: Callable[[Unit, Report], Any] | None = None
    for line in sys.stdin:
        try:
            message = json.loads(line)
            if call is None:
                call = _resolve(message)
                continue
            answer({"result": call(message, lambda report: answer({"report": report}))})
        except MambabenchError as error:
            told = {"error": type(error).__name__, "text": str(error)}
            notes = "\n".join(getattr(error, "__notes__", ()))
            answer({**told, "notes": notes, "traceback": error.traceback})
        except BrokenPipeError:
            return
        except Exception:
            answer({"error": "", "text": traceback.format_exc()})
