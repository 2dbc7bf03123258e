"""The verb: probe every stored (encoder, task) that is asked for, and write the records."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mambabench.benchmarks.metrics import METRICS
from mambabench.engine.jobs import Job, Steps
from mambabench.engine.threads import Pool
from mambabench.errors import MambabenchError, ProtocolError, StoreError, nearest_names
from mambabench.files import sha256_file
from mambabench.probe.cache import TrialCache
from mambabench.probe.chosen import selected
from mambabench.probe.data import TaskRows, task_fingerprint
from mambabench.probe.estimate import Cell, estimate, stand_in
from mambabench.probe.heads.with_numba import numba_available
from mambabench.probe.plan import TaskPlan, Unit
from mambabench.probe.protocols import DEFAULT_PROTOCOL, Inapplicable, Protocol, resolve_protocol
from mambabench.probe.settings import ProbeSettings
from mambabench.probe.stack_pool import run_stacked
from mambabench.probe.units import unit_steps
from mambabench.provenance import provenance, usable_cores
from mambabench.settings import Names, parse_share, settings_of
from mambabench.store import embeddings as store
from mambabench.store.embeddings import StoredTask, require_frames
from mambabench.store.estimate import Estimate, PlannedTask
from mambabench.store.open import list_stored_tasks
from mambabench.store.records import (
    DamagedRecordError,
    RunRecord,
    read_record,
    record_stem,
    stated_predictions_sha256,
    write_record,
)

__all__ = ["ProbeFailure", "ProbeProgress", "ProbeRun", "inputs_sha256", "probe", "probe_with"]

RESULTS_VERSION = 2  # raise it when the same inputs give other results


@dataclass(frozen=True)
class ProbeFailure:
    """A unit that could not be done, and why."""

    encoder: str
    task: str
    seed: int
    reason: str


@dataclass(frozen=True)
class ProbeProgress:
    """One unit has ended: done, found done, or failed."""

    record: RunRecord
    seconds: float  # wall time since the unit started; 0 if its record was there
    n_done: int
    n_total: int


@dataclass(frozen=True)
class ProbeRun:
    """What a call of `probe` did."""

    out: Path
    n_trained: int  # units
    n_present: int  # units whose records were there already
    failures: tuple[ProbeFailure, ...]
    unavailable: tuple[ProbeFailure, ...]  # cells that a protocol cannot fill, with the reason
    estimates: tuple[Estimate, ...] = ()  # of a dry run, which trains a few trials


@dataclass(frozen=True)
class _Key:
    """A unit before its rows are read."""

    stored: StoredTask
    protocol: Protocol
    seed: int
    stem: Path
    inputs_sha256: str
    damage: str = ""  # why its embeddings cannot be read: the unit fails, others go on


def probe(
    seeds: int = 10,
    protocol: str | None = None,
    grid: str = "default",
    exact: bool = False,
    *,
    jobs: int | None = None,
    device: str = "auto",
    out: Path | str = "mambabench-out",
    task: Names = (),
    encoder: Names = (),
    frames: str = "store",
    lm: Path | str | None = None,
    layout: str = "store",
    shard: str | None = None,
    limit: int | float | str | None = None,
    dry_run: bool = False,
    progress: Callable[[ProbeProgress], None] | None = None,
) -> ProbeRun:
    """Train and score the heads of every stored task below `out`; write one record per seed.

    Seeds are 0 .. seeds - 1. Without `protocol` a task's own is used, else `ssam2024`. Units whose
    record is there and follows from the same inputs are left alone, so that an interrupted run is
    continued by the same call. A unit that fails is recorded with its reason and the others go on.
    `shard` "i/n" does every n-th unit; the shares together are one run, byte for byte. `limit`
    probes what `extract` has stored with the same limit, and only that. `dry_run` trains a few
    trials only and returns, in `estimates`, what the rest would take.
    Raises StoreError if nothing is stored, ProtocolError or DataError for unknown names.
    """
    given = dict(locals())
    del given["progress"]
    return probe_with(settings_of(ProbeSettings, given, error=ProtocolError), progress)


def probe_with(
    settings: ProbeSettings, progress: Callable[[ProbeProgress], None] | None = None
) -> ProbeRun:
    """Do what `probe` does, told by settings."""
    share, n_shares = parse_share(settings.shard)
    out = settings.out
    keys = []
    for stored in selected(settings):
        name = settings.protocol or stored.task.protocol or DEFAULT_PROTOCOL
        protocol = resolve_protocol(name, settings.grid, settings.exact, settings.lm)
        require_frames(stored, settings.frames)
        keys += _keys(out, stored, protocol, settings.seeds)
    n_threads = settings.jobs or usable_cores()
    if settings.dry_run:
        rows = estimate(_cells(keys[share::n_shares]), n_threads)
        return ProbeRun(out, 0, 0, (), (), estimates=rows)
    session = _Session(keys[share::n_shares], progress)
    try:
        session.run(n_threads, _device(settings.device))
    except OSError as error:
        raise _refused(out, error) from error
    return session.result(out)


def _cells(keys: Sequence[_Key]) -> list[Cell]:
    """Return what is left of every (encoder, task, protocol)."""
    cells = []
    for _, group in itertools.groupby(keys, lambda key: key.stem.parent):
        own = list(group)
        n_units = sum(_present(key) is None for key in own)
        cells.append(Cell(own[0].stored, own[0].protocol, n_units))
    return cells


def probe_planned(settings: ProbeSettings, planned: Sequence[PlannedTask]) -> tuple[Estimate, ...]:
    """Return what probes of embeddings would take that are planned and perhaps not there yet."""
    there = {(s.encoder, s.task.name): s for s in list_stored_tasks(settings.out, settings.layout)}
    cells = []
    for one in planned:
        stored = stand_in(one)
        name = settings.protocol or stored.task.protocol or DEFAULT_PROTOCOL
        protocol = resolve_protocol(name, settings.grid, settings.exact)
        found = there.get((stored.encoder, stored.task.name))
        if found is not None:
            cells += _cells(_keys(settings.out, found, protocol, settings.seeds))
        else:
            cells.append(Cell(stored, protocol, len(_seeds(stored, protocol, settings.seeds)), one))
    return estimate(cells, settings.jobs or usable_cores())


def _refused(out: Path, error: OSError) -> StoreError:
    """Return the error of a disk that refuses: a folder that is read-only, or no space left."""
    folder = Path(error.filename).parent if error.filename else out / "probes"
    return StoreError(
        f"cannot write {folder}: {error.strerror or error}; free some space or fix the folder and "
        "give the same command again: finished units stay"
    )


def _device(name: str) -> str:
    """Return "cpu" or "cuda" for auto, cpu or cuda; ProtocolError where it is not there."""
    import torch

    if name not in ("auto", "cpu", "cuda"):
        near = nearest_names(name, ("auto", "cpu", "cuda"))
        raise ProtocolError(f"no device named {name!r} (known: auto, cpu, cuda){near}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ProtocolError(
            "device is cuda, but torch finds no CUDA device here: use --device cpu, or install a "
            "CUDA build of torch"
        )
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def _keys(out: Path, stored: StoredTask, protocol: Protocol, n_seeds: int) -> list[_Key]:
    """Return the units of one stored task; deterministic protocols have the seed 0 alone."""
    task = stored.task.name
    damage = fingerprint = ""
    try:
        fingerprint = task_fingerprint(stored) + protocol.adds_to(stored.task.prediction_type)
    except StoreError as error:
        damage = str(error)
    encoder = store.encoder_key(stored.encoder)
    return [
        _Key(
            stored=stored,
            protocol=protocol,
            seed=seed,
            stem=record_stem(out, encoder, task, protocol.name, seed),
            inputs_sha256=inputs_sha256(fingerprint, protocol, seed),
            damage=damage,
        )
        for seed in _seeds(stored, protocol, n_seeds)
    ]


def _seeds(stored: StoredTask, protocol: Protocol, n_seeds: int) -> tuple[int, ...]:
    if protocol.exact and protocol.exact_seeds is not None:
        return protocol.exact_seeds
    seeded = protocol.seeded and stored.task.prediction_type != "queries"  # a search trains nothing
    return tuple(range(n_seeds)) if seeded else (0,)


def inputs_sha256(fingerprint: str, protocol: Protocol, seed: int) -> str:
    """Return the hash of all that a unit follows from; `fingerprint` is `task_fingerprint`'s."""
    content = f"{RESULTS_VERSION} {fingerprint} {protocol!r} {seed}"
    return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class _Recorded:
    """A unit whose record is written, and how long it took."""

    record: RunRecord
    seconds: float


class _Session:
    """The units of one call: what is there, what is trained, what failed."""

    def __init__(
        self, keys: Sequence[_Key], progress: Callable[[ProbeProgress], None] | None
    ) -> None:
        self._keys = keys
        self._progress = progress
        self._n_done = self._n_trained = 0
        self._failures: list[ProbeFailure] = []
        self._unavailable: list[ProbeFailure] = []
        self._stop = threading.Event()

    def run(self, n_threads: int, device: str) -> None:
        """Do every unit that has no valid record yet."""
        missing = []
        for key in self._keys:
            record = _present(key)
            if record is None:
                missing.append(key)
            else:
                self._report(record, 0.0)
        if device == "cpu":
            Pool(self._units(missing, device), n_threads, self._finished, self._stop).run()
            return
        for _, group in itertools.groupby(missing, lambda key: key.stem.parent):
            units = self._units(list(group), device)
            run_stacked(units, self._finished, device=device, stop=self._stop)

    def result(self, out: Path) -> ProbeRun:
        """Return what was done."""
        n_present = len(self._keys) - self._n_trained - len(self._failures) - len(self._unavailable)
        return ProbeRun(
            out, self._n_trained, n_present, tuple(self._failures), tuple(self._unavailable)
        )

    def _units(self, keys: Sequence[_Key], device: str) -> Iterator[tuple[_Key, Steps]]:
        """Yield units lazily; those of one (encoder, task, protocol) share one plan."""
        shared: tuple[Path, _SharedPlan] | None = None
        for key in keys:
            if shared is None or shared[0] != key.stem.parent:
                shared = (key.stem.parent, _SharedPlan(key, self._stop, device))
            yield key, _recorded(key, shared[1], device)

    def _finished(self, key: _Key, result: _Recorded | MambabenchError) -> None:
        if isinstance(result, MambabenchError):
            failure = ProbeFailure(key.stored.encoder, key.stored.task.name, key.seed, str(result))
            listed = self._unavailable if isinstance(result, Inapplicable) else self._failures
            listed.append(failure)
            record = _empty_record(key, str(result))
            write_record(key.stem, record, {}, provenance())
            result = _Recorded(record, 0.0)
        else:
            self._n_trained += 1
        self._report(result.record, result.seconds)

    def _report(self, record: RunRecord, seconds: float) -> None:
        self._n_done += 1
        if self._progress is not None:
            self._progress(ProbeProgress(record, seconds, self._n_done, len(self._keys)))


def _present(key: _Key) -> RunRecord | None:
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


class _SharedPlan:
    """The plan of the units of one (encoder, task, protocol), made by the first that starts."""

    def __init__(self, key: _Key, stop: threading.Event, device: str) -> None:
        self._key = key
        self._stop = stop
        self._device = device
        self._plan: TaskPlan | None = None

    def __call__(self) -> TaskPlan:
        """Return the plan. The pool starts units one at a time, so no lock is needed."""
        if self._plan is None:
            rows = TaskRows(self._key.stored, kit=self._key.protocol.kit)
            self._plan = TaskPlan(rows, self._key.protocol, self._stop, self._device)
        return self._plan


def _recorded(
    key: _Key, plan: _SharedPlan, device: str
) -> Generator[list[Job], list[Any], _Recorded]:
    """Run a unit's jobs and write its record."""
    if key.damage:
        raise StoreError(key.damage)
    started = time.time()
    cache = TrialCache(key.stem.with_suffix(".work"), key.inputs_sha256)
    result = yield from unit_steps(Unit(plan(), key.seed, key.inputs_sha256, cache))

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
    return _Recorded(result.record, time.time() - started)


def _empty_record(key: _Key, reason: str) -> RunRecord:
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
