"""The verb: probe every stored (encoder, task) that is asked for, and write the records."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from mambabench.benchmarks.kinds import KINDS
from mambabench.engine.choice import WantedEngine, make_engine, wanted_engine
from mambabench.engine.journal import Journal
from mambabench.errors import ProtocolError, StoreError, nearest_names
from mambabench.probe.away import run_away
from mambabench.probe.chosen import selected
from mambabench.probe.data import task_fingerprint
from mambabench.probe.done import ProbeFailure, ProbeRun
from mambabench.probe.estimate import OpenCell, estimate, stand_in
from mambabench.probe.protocols import (
    DEFAULT_PROTOCOL,
    Protocol,
    protocol_key,
    resolve_protocol,
)
from mambabench.probe.session import Key, ProbeProgress, ProbeSession, present
from mambabench.probe.settings import ProbeSettings
from mambabench.provenance import usable_cores
from mambabench.settings import Names, parse_share, settings_of
from mambabench.store import embeddings as store
from mambabench.store.embeddings import StoredTask, require_frames
from mambabench.store.estimate import Estimate, PlannedTask
from mambabench.store.open import list_stored_tasks
from mambabench.store.records import (
    record_stem,
)

__all__ = ["ProbeFailure", "ProbeProgress", "ProbeRun", "inputs_sha256", "probe", "probe_with"]

RESULTS_VERSION = 2  # raise it when the same inputs give other results


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
    engine: str = "local",
    per_node: int | None = None,
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
    jobs = settings.jobs or usable_cores()
    if settings.dry_run:
        rows = estimate(_cells(keys[share::n_shares]), jobs)
        return ProbeRun(out, 0, 0, (), (), estimates=rows)
    wanted = wanted_engine(settings.engine)
    journal = Journal(out, "probe", wanted.name)
    session = ProbeSession(keys[share::n_shares], progress, journal)
    device = settings.device
    if wanted.is_local or device != "cuda":  # the nodes may have what this machine has not
        device = _device(device)
    try:
        with journal:
            if wanted.is_local:
                session.run(jobs, device)
            else:
                _run_elsewhere(session, wanted, jobs, device, settings)
    except OSError as error:
        raise _refused(out, error) from error
    return session.result(out)


def _run_elsewhere(
    session: ProbeSession, wanted: WantedEngine, jobs: int, device: str, settings: ProbeSettings
) -> None:
    """Do the units on another engine; a unit trains all its seeds at once where it has a GPU."""
    out, on_gpu = settings.out, device == "cuda"
    if settings.frames == "recompute":
        raise ProtocolError(
            "--frames recompute needs audio and encoder beside the heads: leave --engine out"
        )
    engine = make_engine(wanted, out, jobs=jobs, on_gpu=on_gpu, per_node=settings.per_node)
    with closing(engine):
        run_away(session, engine, settings, device)


def _cells(keys: Sequence[Key]) -> list[OpenCell]:
    """Return what is left of every (encoder, task, protocol)."""
    cells = []
    for _, group in itertools.groupby(keys, lambda key: key.stem.parent):
        own = list(group)
        n_units = sum(present(key) is None for key in own)
        cells.append(OpenCell(own[0].stored, own[0].protocol, n_units))
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
            cells.append(
                OpenCell(stored, protocol, len(_seeds(stored, protocol, settings.seeds)), one)
            )
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


def _keys(out: Path, stored: StoredTask, protocol: Protocol, n_seeds: int) -> list[Key]:
    """Return the units of one stored task; deterministic protocols have the seed 0 alone."""
    task = stored.task.name
    damage = fingerprint = ""
    try:
        fingerprint = task_fingerprint(stored) + protocol.adds_to(stored.task.prediction_type)
    except StoreError as error:
        damage = str(error)
    encoder = store.encoder_key(stored.encoder)
    return [
        Key(
            stored=stored,
            protocol=protocol,
            seed=seed,
            stem=record_stem(out, encoder, task, protocol.name, seed),
            inputs_sha256=inputs_sha256(fingerprint, protocol, seed),
            content=fingerprint,
            damage=damage,
        )
        for seed in _seeds(stored, protocol, n_seeds)
    ]


def _seeds(stored: StoredTask, protocol: Protocol, n_seeds: int) -> tuple[int, ...]:
    if protocol.exact and protocol.settings.exact_seeds is not None:
        return tuple(protocol.settings.exact_seeds)
    seeded = protocol.seeded and KINDS[stored.task.prediction_type].seeded
    return tuple(range(n_seeds)) if seeded else (0,)


def inputs_sha256(fingerprint: str, protocol: Protocol, seed: int) -> str:
    """Return the hash of all that a unit follows from; `fingerprint` is `task_fingerprint`'s."""
    content = f"{RESULTS_VERSION} {fingerprint} {protocol_key(protocol)} {seed}"
    return hashlib.sha256(content.encode()).hexdigest()
