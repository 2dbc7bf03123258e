"""The verb: probe every stored (encoder, task) that is asked for, and write the records."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from mambabench.engine.choice import Wanted, make_engine, wanted_engine
from mambabench.engine.journal import Journal
from mambabench.errors import DataError, ProtocolError, StoreError, nearest_names
from mambabench.models.naming import short_name
from mambabench.models.registry import encoder_list
from mambabench.probe.away import run_away
from mambabench.probe.data import task_fingerprint
from mambabench.probe.protocols import DEFAULT_PROTOCOL, Protocol, resolve_protocol
from mambabench.probe.session import Key, ProbeFailure, ProbeProgress, ProbeRun, Session
from mambabench.probe.settings import ProbeSettings
from mambabench.provenance import usable_cores
from mambabench.settings import Names, parse_share, settings_of
from mambabench.store import embeddings as store
from mambabench.store.embeddings import StoredTask
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
    layout: str = "store",
    engine: str = "local",
    per_node: int | None = None,
    shard: str | None = None,
    progress: Callable[[ProbeProgress], None] | None = None,
) -> ProbeRun:
    """Train and score the heads of every stored task below `out`; write one record per seed.

    Seeds are 0 .. seeds - 1. Without `protocol` a task's own is used, else `ssam2024`. Units whose
    record is there and follows from the same inputs are left alone, so that an interrupted run is
    continued by the same call. A unit that fails is recorded with its reason and the others go on.
    `shard` "i/n" does every n-th unit; the shares together are one run, byte for byte.
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
    for stored in _selected(out, settings.encoder, settings.task, settings.layout):
        name = settings.protocol or stored.task.protocol or DEFAULT_PROTOCOL
        protocol = resolve_protocol(name, settings.grid, settings.exact)
        keys += _keys(out, stored, protocol, settings.seeds)
    wanted = wanted_engine(settings.engine)
    jobs = settings.jobs or usable_cores()
    journal = Journal(out, "probe", wanted.name)
    session = Session(keys[share::n_shares], progress, journal)
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
    session: Session, wanted: Wanted, jobs: int, device: str, settings: ProbeSettings
) -> None:
    """Do the units on another engine; a unit trains all its seeds at once where it has a GPU."""
    out, on_gpu = settings.out, device == "cuda"
    engine = make_engine(wanted, out, jobs=jobs, on_gpu=on_gpu, per_node=settings.per_node)
    with closing(engine):
        run_away(session, engine, out, device, grid=settings.grid, exact=settings.exact)


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


def _selected(
    out: Path, encoders: Sequence[str], tasks: Sequence[str], layout: str
) -> tuple[StoredTask, ...]:
    """Return the stored tasks that the names choose; StoreError or DataError if there are none."""
    found = list_stored_tasks(out, layout)
    if not found:
        raise StoreError(
            f"{out / 'embeddings'}: no finished embeddings; run `mambabench extract` with the same "
            "--out first"
        )
    for name in tasks:
        known = sorted({stored.task.name for stored in found})
        if name not in known:
            raise DataError(
                f"no embeddings of task {name!r} below {out} (there: {', '.join(known)})"
                f"{nearest_names(name, known)}"
            )
    encoders = encoder_list(encoders) if "zoo" in encoders else encoders
    for name in encoders:
        labels = sorted({stored.encoder for stored in found})
        if not any(_is_label_of(name, label) for label in labels):
            raise StoreError(
                f"no embeddings of encoder {name!r} below {out} (there: {', '.join(labels)})"
                f"{nearest_names(name, labels)}"
            )
    return tuple(
        stored
        for stored in found
        if (not tasks or stored.task.name in tasks)
        and (not encoders or any(_is_label_of(name, stored.encoder) for name in encoders))
    )


def _is_label_of(name: str, label: str) -> bool:
    """Say whether [NAME=]E or E@PATH may be meant by a stored label E or E@<digits>."""
    name = short_name(name)
    same_kind = ("@" in name) == ("@" in label)
    return name == label or (same_kind and name.partition("@")[0] == label.partition("@")[0])


def _keys(out: Path, stored: StoredTask, protocol: Protocol, n_seeds: int) -> list[Key]:
    """Return the units of one stored task; deterministic protocols have the seed 0 alone."""
    seeded = protocol.seeded and stored.task.prediction_type != "queries"  # a search trains nothing
    seeds = tuple(range(n_seeds)) if seeded else (0,)
    if protocol.exact and protocol.exact_seeds is not None:
        seeds = protocol.exact_seeds
    task = stored.task.name
    damage = fingerprint = ""
    try:
        fingerprint = task_fingerprint(stored)
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
        for seed in seeds
    ]


def inputs_sha256(fingerprint: str, protocol: Protocol, seed: int) -> str:
    """Return the hash of all that a unit follows from; `fingerprint` is `task_fingerprint`'s."""
    content = f"{RESULTS_VERSION} {fingerprint} {protocol!r} {seed}"
    return hashlib.sha256(content.encode()).hexdigest()
