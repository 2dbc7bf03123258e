"""The units of one call of ``probe``: what is there, what is trained, what failed."""

from __future__ import annotations

import itertools
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mambabench.benchmarks.metrics import METRICS
from mambabench.engine.jobs import Job, Steps
from mambabench.engine.journal import CellKey, Journal
from mambabench.engine.threads import Pool
from mambabench.engine.units import Crew
from mambabench.errors import MambabenchError, StoreError
from mambabench.files import sha256_file
from mambabench.probe.cache import TrialCache
from mambabench.probe.data import TaskRows
from mambabench.probe.done import ProbeFailure, ProbeRun
from mambabench.probe.heads.with_numba import numba_available
from mambabench.probe.plan import ProbePlan, ProbeUnit
from mambabench.probe.protocols import Inapplicable, Protocol
from mambabench.probe.stacked_units import run_stacked
from mambabench.probe.units import unit_steps
from mambabench.provenance import provenance
from mambabench.store.embeddings import StoredTask
from mambabench.store.records import (
    DamagedRecordError,
    RunRecord,
    read_record,
    stated_predictions_sha256,
    write_record,
)

__all__ = [
    "Key",
    "ProbeProgress",
    "ProbeSession",
    "Recorded",
    "SharedPlan",
    "present",
    "recorded",
]


@dataclass(frozen=True)
class ProbeProgress:
    """One unit has ended: done, found done, or failed."""

    record: RunRecord
    seconds: float  # wall time since the unit started; 0 if its record was there
    n_done: int
    n_total: int
    crew: Crew | None = None  # who works, where that is not this machine alone


@dataclass(frozen=True)
class Key:
    """A unit before its rows are read."""

    stored: StoredTask
    protocol: Protocol
    seed: int
    stem: Path
    inputs_sha256: str
    content: str = ""  # hash of its embeddings and labels
    damage: str = ""  # why its embeddings cannot be read: the unit fails, others go on


@dataclass(frozen=True)
class Recorded:
    """A unit whose record is written, and how long it took."""

    record: RunRecord
    seconds: float


class ProbeSession:
    """The units of one call: what is there, what is trained, what failed."""

    def __init__(
        self,
        keys: Sequence[Key],
        progress: Callable[[ProbeProgress], None] | None,
        journal: Journal | None = None,
        plan: SharedPlan | None = None,
    ) -> None:
        """`plan` serves units that are like those it was made for."""
        self.plan = plan  # of the units that started last
        self._journal = journal
        if journal is not None:
            journal.plan(Counter(map(_cell, keys)))
        self.crew: Crew | None = None  # who works, where that is not this process
        self._keys = keys
        self._progress = progress
        self._n_done = self._n_trained = 0
        self._failures: list[ProbeFailure] = []
        self._unavailable: list[ProbeFailure] = []
        self._stop = threading.Event()

    def missing(self) -> list[Key]:
        """Return the units that have no valid record yet; tell of those that have."""
        missing = []
        for key in self._keys:
            record = present(key)
            if record is None:
                missing.append(key)
            else:
                self._report(record, 0.0)
        return missing

    def run(self, n_threads: int, device: str) -> None:
        """Do every unit that has no valid record yet, in this process."""
        missing = self.missing()
        if device == "cpu":
            Pool(self._units(missing, device), n_threads, self.finished, self._stop).run()
            return
        for _, group in itertools.groupby(missing, lambda key: key.stem.parent):
            units = self._units(list(group), device)
            run_stacked(units, self.finished, device=device, stop=self._stop)

    def result(self, out: Path) -> ProbeRun:
        """Return what was done."""
        n_present = len(self._keys) - self._n_trained - len(self._failures) - len(self._unavailable)
        return ProbeRun(
            out, self._n_trained, n_present, tuple(self._failures), tuple(self._unavailable)
        )

    def _units(self, keys: Sequence[Key], device: str) -> Iterator[tuple[Key, Steps]]:
        """Yield units lazily; those of one (encoder, task, protocol) share one plan."""
        for key in keys:
            if self.plan is None or not self.plan.serves(key, device):
                self.plan = SharedPlan(key, self._stop, device)
            self.begun(key)
            yield key, recorded(key, self.plan, device)

    def begun(self, key: Key) -> None:
        """Note that a unit is given out."""
        if self._journal is not None:
            self._journal.begin(_cell(key))

    def on_crew(self, crew: Crew) -> None:
        """Note who works."""
        self.crew = crew
        if self._journal is not None:
            self._journal.workers = crew.workers

    def finished(self, key: Key, result: Recorded | MambabenchError) -> None:
        """Note the end of a unit; of one that failed, a record says why."""
        if self._journal is not None:
            self._journal.end(_cell(key))
        if isinstance(result, MambabenchError):
            failure = ProbeFailure(key.stored.encoder, key.stored.task.name, key.seed, str(result))
            listed = self._unavailable if isinstance(result, Inapplicable) else self._failures
            listed.append(failure)
            record = _empty_record(key, str(result))
            write_record(key.stem, record, {}, provenance())
            result = Recorded(record, 0.0)
        else:
            self._n_trained += 1
        self._report(result.record, result.seconds)

    def _report(self, record: RunRecord, seconds: float) -> None:
        self._n_done += 1
        if self._progress is not None:
            self._progress(ProbeProgress(record, seconds, self._n_done, len(self._keys), self.crew))


def _cell(key: Key) -> CellKey:
    return key.stored.encoder, key.stored.task.name, key.protocol.name


def present(key: Key) -> RunRecord | None:
    """Return the unit's record if it is whole and follows from the same inputs.

    A damaged one is trained again, with a warning: all that it followed from is at hand.
    """
    path, predictions = key.stem.with_suffix(".json"), key.stem.with_suffix(".npz")
    if not path.is_file() or not predictions.is_file():
        return None
    try:
        record = read_record(path)
        stated = stated_predictions_sha256(path.read_bytes())
    except DamagedRecordError as error:
        warnings.warn(f"{error} (done now)", stacklevel=2)
        return None
    if not record.folds or record.inputs_sha256 != key.inputs_sha256:
        return None
    if sha256_file(predictions) != stated:
        warnings.warn(
            f"{predictions} is not what {path.name} was written with; trained again", stacklevel=2
        )
        return None
    return record


class SharedPlan:
    """The plan of the units of one (encoder, task, protocol), made by the first that starts."""

    def __init__(self, key: Key, stop: threading.Event, device: str) -> None:
        self._key = key
        self._stop = stop
        self._device = device
        self._plan: ProbePlan | None = None

    def serves(self, key: Key, device: str) -> bool:
        """Say whether a unit is of the same (encoder, task, protocol)."""
        same = (key.stem.parent.parts[-3:], key.protocol, key.content, device)
        return same == (
            self._key.stem.parent.parts[-3:],
            self._key.protocol,
            self._key.content,
            self._device,
        )

    def __call__(self) -> ProbePlan:
        """Return the plan. The pool starts units one at a time, so no lock is needed."""
        if self._plan is None:
            rows = TaskRows(self._key.stored, kit=self._key.protocol.kit)
            self._plan = ProbePlan(rows, self._key.protocol, self._stop, self._device)
        return self._plan


def recorded(
    key: Key, plan: Callable[[], ProbePlan], device: str
) -> Generator[list[Job], list[Any], Recorded]:
    """Run a unit's jobs and write its record."""
    if key.damage:
        raise StoreError(key.damage)
    started = time.time()
    cache = TrialCache(key.stem.with_suffix(".work"), key.inputs_sha256)
    result = yield from unit_steps(ProbeUnit(plan(), key.seed, key.inputs_sha256, cache))

    def write() -> None:
        timing = {"started_unix": started, "wall_s": time.time() - started}
        engine = "stacked" if device != "cpu" else "numba" if numba_available() else "torch"
        write_record(
            key.stem,
            result.record,
            result.predictions,
            {**provenance(), **timing, "engine": engine, "device": device},
        )
        cache.remove()

    yield [Job(write)]
    return Recorded(result.record, time.time() - started)


def _empty_record(key: Key, reason: str) -> RunRecord:
    """Return the record of a unit without a score."""
    task = key.stored.task
    metric = METRICS.get(task.evaluation[0])
    return RunRecord(
        encoder=key.stored.encoder,
        encoder_identity=key.stored.encoder_identity,
        task=task.name,
        protocol=key.protocol.name,
        seed=key.seed,
        layers=key.stored.layers,
        metric=task.evaluation[0],
        higher_is_better=metric is None or metric.higher_is_better,
        n_labels=len(task.labels),
        folds=(),
        score=None,
        reason=reason,
        restricted=task.restricted,
        inputs_sha256=key.inputs_sha256,
        missing=tuple(sorted(key.stored.missing)),
        frames=key.stored.frames,
        protocol_version=key.protocol.version,
        limited=task.limited,
    )
