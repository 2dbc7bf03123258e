"""Run units on a Ray cluster: actors that stay, so that an encoder is loaded once in each.

Every node that is alive has its workers; nodes that join are used, nodes that leave are missed: a
unit whose worker died is begun again elsewhere. Workers need not see the output folder. A few units
wait at every worker, and no more, so that what is planned stays a plan.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from mambabench.engine.ray_connect import connect, first_line
from mambabench.engine.ray_share import Share
from mambabench.engine.units import (
    MOST_ATTEMPTS,
    Crew,
    Lost,
    Shared,
    Unit,
    answered,
    resolve_function,
    told_error,
)
from mambabench.errors import MambabenchError

__all__ = ["RayEngine"]

IN_FLIGHT = 2  # units at one worker: one in hand, one that waits
LOOK_EVERY_S = 1.0  # how often nodes are counted
PATIENCE_S = 60.0  # how long a cluster may be without any worker that answers
MOST_FAILED_STARTS = 3  # of workers on one node, in a row


class _Hand:
    """The actor: does units by name, one after another, in the order in which they were given."""

    def hello(self, path: list[str], function: str) -> tuple[str, int]:
        """Import what a driver's interpreter can, and what units need; return who answers."""
        sys.path.extend(entry for entry in path if entry not in sys.path)
        with suppress(Exception):  # the first unit tells what is wrong
            resolve_function(function)
        return socket.gethostname(), os.getpid()

    def do(self, function: str, spec: dict[str, Any], shared: Any) -> dict[str, Any]:
        """Return {"result"} or an error as `told_error` reads it; reports come with the result."""
        reports: list[Any] = []
        given = spec if shared is None else {**spec, "shared": shared}
        return {**answered(function, given, reports.append), "reports": reports}


@dataclass
class _RayWorker:
    """One actor and what it was given, the oldest first."""

    node: str
    actor: Any
    needs: float  # cores, or GPUs
    ready: bool = False
    given: deque[Any] = field(default_factory=deque)  # object references
    since: float = 0.0  # when the oldest was begun


@dataclass
class _Given:
    """A unit in flight."""

    index: int
    unit: Unit
    worker: _RayWorker


class RayEngine:
    """A Ray that runs, by its address, or one that is started on this machine and ended again."""

    shares_out = False

    def __init__(
        self,
        address: str = "",
        *,
        jobs: int = 1,
        on_gpu: bool = False,
        per_node: int | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """`per_node` workers share a node's cores, or its GPUs where `on_gpu`; without it each has
        one of its own."""
        self._on_gpu, self._per_node, self._timeout_s = on_gpu, per_node, timeout_s
        self._own = connect(address, jobs)

    def run(
        self,
        function: str,
        units: Iterable[Unit],
        *,
        attempts: int = MOST_ATTEMPTS,
        on_report: Callable[[Any], None] = lambda report: None,
        on_crew: Callable[[Crew], None] = lambda crew: None,
    ) -> Iterator[tuple[int, Any]]:
        """Yield (index, result) as `Engine.run` says."""
        share = Share(self._on_gpu, self._per_node)
        crowd = _RayCrowd(function, share, attempts, self._timeout_s, on_report, on_crew)
        try:
            yield from crowd.work(units)
        finally:
            crowd.stop()

    def close(self) -> None:
        """End the Ray that was started here."""
        import ray

        if self._own:
            ray.shutdown()
            self._own = False


class _RayCrowd:
    """Workers on every node, and the units in flight."""

    def __init__(
        self,
        function: str,
        share: Share,
        attempts: int,
        timeout_s: float | None,
        on_report: Callable[[Any], None],
        on_crew: Callable[[Crew], None],
    ) -> None:
        import ray

        self._ray = ray
        self._hand = ray.remote(max_restarts=0, max_task_retries=0)(_Hand)
        self._function, self._share = function, share
        self._attempts, self._timeout_s = attempts, timeout_s
        self._on_report, self._on_crew = on_report, on_crew
        self._workers: list[_RayWorker] = []
        self._hellos: dict[Any, _RayWorker] = {}
        self._flight: dict[Any, _Given] = {}
        self._again: deque[tuple[int, Unit]] = deque()
        self._todo: Iterator[tuple[int, Unit]] = iter(())
        self._begun: dict[int, int] = {}  # unit -> times that its worker died under it
        self._failed_starts: dict[str, int] = {}  # by node
        self._why = ""  # the last reason why a worker did not start
        self._put: dict[str, Any] = {}  # what units share, by key
        self._looked = 0.0
        self._answered = time.monotonic()

    def work(self, units: Iterable[Unit]) -> Iterator[tuple[int, Any]]:
        self._todo = iter(enumerate(units))
        more = True
        while True:
            self._look_at_nodes()
            more = self._fill() if more or self._again else False
            if not more and not self._flight:
                return
            refs = [*self._flight, *self._hellos]
            done, _ = self._ray.wait(refs, num_returns=1, timeout=LOOK_EVERY_S) if refs else ([], 0)
            if not refs:
                time.sleep(LOOK_EVERY_S / 4)
            for ref in done:
                if ref in self._hellos:
                    self._greeted(ref)
                elif ref in self._flight:
                    yield from self._answer(ref)
            yield from self._late()

    # --- workers ---

    def _look_at_nodes(self) -> None:
        """Have as many workers on every node that is alive as it can hold; count them."""
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY_S:
            return
        self._looked = now
        nodes = {n["NodeID"]: n for n in self._ray.nodes() if n["Alive"]}
        for worker in [w for w in self._workers if w.node not in nodes]:
            self._let_go(worker)
        for node_id, node in nodes.items():
            n, resources = self._share.of(node)
            here = sum(worker.node == node_id for worker in self._workers)
            for _ in range(n - here):
                if self._failed_starts.get(node_id, 0) < MOST_FAILED_STARTS:
                    self._hire(node_id, resources)
        ready = [worker for worker in self._workers if worker.ready]
        self._on_crew(Crew(len({worker.node for worker in ready}), len(ready)))
        if ready:
            self._answered = now
        elif self._are_taken():
            self._answered = now  # by other commands: wait for them
        elif now - self._answered > PATIENCE_S or (not self._workers and self._why):
            raise MambabenchError(
                f"--engine ray: no node gives a worker ({len(nodes)} nodes; "
                f"{self._why or 'their cores or GPUs are taken or none'}); the same command "
                "continues where it stopped"
            )

    def _are_taken(self) -> bool:
        """Say whether nodes have what workers need, but others hold it."""
        kind = "GPU" if self._share.on_gpu else "CPU"
        free = self._ray.available_resources().get(kind, 0.0)
        least = min((worker.needs for worker in self._workers), default=0.0)
        return least > 0.0 and free + 1e-6 < least

    def _hire(self, node_id: str, resources: dict[str, float]) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        place = NodeAffinitySchedulingStrategy(node_id, soft=False)
        actor = self._hand.options(scheduling_strategy=place, **resources).remote()
        needs = resources.get("num_gpus" if self._share.on_gpu else "num_cpus", 0.0)
        worker = _RayWorker(node_id, actor, needs)
        self._workers.append(worker)
        self._hellos[actor.hello.remote([str(entry) for entry in sys.path], self._function)] = (
            worker
        )

    def _greeted(self, ref: Any) -> None:
        worker = self._hellos.pop(ref)
        try:
            self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            self._failed_starts[worker.node] = self._failed_starts.get(worker.node, 0) + 1
            self._why = first_line(error)
            self._let_go(worker)
            return
        self._failed_starts.pop(worker.node, None)
        worker.ready = True

    def _let_go(self, worker: _RayWorker) -> None:
        """Forget a worker; what it was given waits for another."""
        if worker in self._workers:
            self._workers.remove(worker)
        for ref in worker.given:
            given = self._flight.pop(ref, None)
            if given is not None:
                self._again.append((given.index, given.unit))
        worker.given.clear()
        self._hellos = {r: w for r, w in self._hellos.items() if w is not worker}
        with suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.kill(worker.actor, no_restart=True)
        self._looked = 0.0

    # --- units ---

    def _fill(self) -> bool:
        """Give units to workers that have too few; False when none is left to give."""
        for depth in range(1, IN_FLIGHT + 1):
            for worker in self._workers:
                if not worker.ready or len(worker.given) >= depth:
                    continue
                following = self._again.popleft() if self._again else next(self._todo, None)
                if following is None:
                    return False
                self._give(worker, *following)
        return True

    def _give(self, worker: _RayWorker, index: int, unit: Unit) -> None:
        shared = None if unit.shared is None else self._shared(unit.shared)
        ref = worker.actor.do.remote(self._function, unit.spec, shared)
        if not worker.given:
            worker.since = time.monotonic()
        worker.given.append(ref)
        self._flight[ref] = _Given(index, unit, worker)

    def _shared(self, shared: Shared) -> Any:
        """Return the reference of what units share, put once; only what is in use is kept."""
        if shared.key not in self._put:
            used = {g.unit.shared.key for g in self._flight.values() if g.unit.shared}
            self._put = {key: ref for key, ref in self._put.items() if key in used}
            self._put[shared.key] = self._ray.put(shared.load())
        return self._put[shared.key]

    def _answer(self, ref: Any) -> Iterator[tuple[int, Any]]:
        given = self._flight[ref]
        try:
            answer = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            yield from self._died(given.worker, first_line(error))
            return
        yield self._told(ref, answer)

    def _told(self, ref: Any, answer: dict[str, Any]) -> tuple[int, Any]:
        """Take a finished unit off its worker; return its index and result."""
        given = self._flight.pop(ref)
        given.worker.given.remove(ref)
        given.worker.since = time.monotonic()
        if "error" in answer:
            return given.index, told_error(answer)
        for report in answer["reports"]:
            self._on_report(report)
        return given.index, answer["result"]

    def _late(self) -> Iterator[tuple[int, Any]]:
        if self._timeout_s is None:
            return
        now = time.monotonic()
        for worker in [w for w in self._workers if w.given and now - w.since > self._timeout_s]:
            reason = f"it took longer than {self._timeout_s:g} s (--timeout)"
            yield from self._died(worker, reason, at_once=True)

    def _died(
        self, worker: _RayWorker, cause: str, *, at_once: bool = False
    ) -> Iterator[tuple[int, Any]]:
        """Begin the unit in the hand of a dead worker again, or tell that it is lost.

        What it finished before is taken first: the oldest without a result was in its hand.
        """
        for ref in list(worker.given):
            if not self._ray.wait([ref], timeout=0)[0]:
                break
            try:
                answer = self._ray.get(ref)
            except self._ray.exceptions.RayError:
                break
            yield self._told(ref, answer)
        if not worker.given:
            self._let_go(worker)
            return
        in_hand = self._flight[worker.given[0]]
        index = in_hand.index
        self._begun[index] = self._begun.get(index, 0) + 1
        lost = at_once or self._begun[index] >= self._attempts
        if lost:
            del self._flight[worker.given.popleft()]
        self._let_go(worker)
        if lost:
            yield index, Lost(f"a worker on a node of Ray ended: {cause}")

    def stop(self) -> None:
        """End all workers at once, whatever they are doing: units are idempotent."""
        for worker in self._workers:
            with suppress(self._ray.exceptions.RayError, ValueError):
                self._ray.kill(worker.actor, no_restart=True)
        self._workers, self._flight, self._put = [], {}, {}
