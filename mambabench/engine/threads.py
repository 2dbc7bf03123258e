"""Run units on threads: one trial per thread, the dearest first, results in the units' order."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch

from mambabench.engine.jobs import Job, Steps, Stopped
from mambabench.errors import MambabenchError

__all__ = ["Pool"]

K = TypeVar("K")


@dataclass
class _UnitInHand(Generic[K]):
    """A unit in hand: its generator and the results that its current jobs have brought."""

    key: K
    steps: Steps
    results: list[Any] = field(default_factory=list)
    n_left: int = 0


class Pool(Generic[K]):
    """Threads that work off units. Units start in order, a new one only when a thread is idle, so
    that memory is bounded by the number of threads. What a unit gives does not depend on it."""

    def __init__(
        self,
        units: Iterator[tuple[K, Steps]],
        n_threads: int,
        done: Callable[[K, Any], None],
        stop: threading.Event,
    ) -> None:
        """`done` is called with a key and its result, or the MambabenchError that ended it, one
        call at a time, on the thread that finished the unit."""
        self._units = units
        self._n_threads = n_threads
        self._done = done
        self._stop = stop
        self._condition = threading.Condition()
        self._ready: list[tuple[float, int, _UnitInHand[K], int, Job]] = []
        self._n_active = 0
        self._n_pushed = 0
        self._exhausted = False
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Work until every unit is done; re-raise what is not a MambabenchError."""
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self._n_threads)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)  # returns to Python often enough for Ctrl-C
        except BaseException:
            self._end()
            for thread in threads:
                thread.join(30)
            raise
        if self._failure is not None:
            raise self._failure

    def _end(self) -> None:
        self._stop.set()
        with self._condition:
            self._condition.notify_all()

    def _work(self) -> None:
        torch.set_num_threads(1)  # of this thread: rounding and load must not depend on the machine
        try:
            while (task := self._next()) is not None:
                self._run_job(*task)
        except Stopped:
            self._end()
        except BaseException as error:
            self._failure = self._failure or error
            self._end()

    def _next(self) -> tuple[_UnitInHand[K], int, Job] | None:
        """Return a job that can run now, starting a unit if none can; None when all is done."""
        with self._condition:
            while not self._stop.is_set():
                if self._ready:
                    _, _, running, index, job = heapq.heappop(self._ready)
                    return running, index, job
                if not self._exhausted and self._start():
                    continue
                if self._exhausted and self._n_active == 0:
                    break
                self._condition.wait()
            self._condition.notify_all()
            return None

    def _start(self) -> bool:
        """Start the next unit; False if there is none. Called with the lock held."""
        unit = next(self._units, None)
        if unit is None:
            self._exhausted = True
            return False
        self._n_active += 1
        self._advance(_UnitInHand(*unit), None)
        return True

    def _run_job(self, running: _UnitInHand[K], index: int, job: Job) -> None:
        try:
            result = job.run()
        except MambabenchError as error:
            result = error
        with self._condition:
            running.results[index] = result
            running.n_left -= 1
            if running.n_left == 0:
                self._advance(running, running.results)

    def _advance(self, running: _UnitInHand[K], results: list[Any] | None) -> None:
        """Give a unit its results and queue what it asks for next. Called with the lock held."""
        errors = [r for r in results or [] if isinstance(r, MambabenchError)]
        try:
            if errors:
                running.steps.close()
                raise errors[0]
            jobs = next(running.steps) if results is None else running.steps.send(results)
        except StopIteration as end:
            self._finish(running, end.value)
            return
        except MambabenchError as error:
            self._finish(running, error)
            return
        running.results = [None] * len(jobs)
        running.n_left = len(jobs)
        for index, job in enumerate(jobs):
            self._n_pushed += 1
            heapq.heappush(self._ready, (-job.cost, self._n_pushed, running, index, job))
        self._condition.notify_all()

    def _finish(self, running: _UnitInHand[K], result: Any) -> None:
        self._n_active -= 1
        self._done(running.key, result)
        self._condition.notify_all()
