"""The unit of probing for other processes and other machines: (encoder, task, protocol, seeds).

Where workers see the output folder they read the store and write the records. Where they do not,
the store comes with the unit, once for all units of a task and without copies on a node, and the
records go back to who asked, who writes them.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mambabench.engine.scratch import scratch_folder
from mambabench.engine.units import Engine, Lost, Shared, Unit
from mambabench.errors import MambabenchError, ProtocolError, StoreError
from mambabench.files import write_bytes
from mambabench.probe.protocols import DEFAULT_PROTOCOL, Inapplicable, resolve_protocol
from mambabench.probe.session import Key, ProbeProgress, ProbeSession, Recorded, SharedPlan
from mambabench.probe.settings import ProbeSettings
from mambabench.store import hear_eval_kit_read
from mambabench.store.embeddings import EmbeddingSet, StoredTask, encoder_key, stored_task
from mambabench.store.open import hold, read_embeddings
from mambabench.store.records import read_record, record_stem

__all__ = ["Sent", "probe_unit", "run_away"]

FILES = (".npz", ".provenance.json", ".json")  # of a record, in the order of writing
MOST_BYTES = 64 << 20  # of a small file that goes with a store


@dataclass(frozen=True)
class Sent:
    """A stored task for workers that cannot open it."""

    stored: StoredTask
    files: dict[str, bytes]  # the small files that lie in its folder
    sets: dict[str, EmbeddingSet]


def run_away(session: ProbeSession, engine: Engine, settings: ProbeSettings, device: str) -> None:
    """Do the session's units that are missing on an engine."""
    sound = []
    for key in session.missing():
        if key.damage:
            session.finished(key, StoreError(key.damage))
        else:
            sound.append([key])
    if device != "cpu":  # all seeds at once: they are trained in one stack
        alike = itertools.groupby((k for (k,) in sound), lambda key: key.stem.parent)
        sound = [list(keys) for _, keys in alike]

    def units() -> Iterator[Unit]:
        for keys in sound:
            for key in keys:
                session.begun(key)
            spec = _spec_of(keys, settings, device)
            if engine.shares_out:
                yield Unit(spec)
            else:
                yield Unit(spec, Shared(keys[0].content, _sender(keys[0].stored)))

    results = engine.run("mambabench.probe.away:probe_unit", units(), on_crew=session.on_crew)
    with closing(results):  # type: ignore[type-var]
        for index, result in results:
            _take(session, sound[index], result)


def _spec_of(keys: Sequence[Key], settings: ProbeSettings, device: str) -> dict[str, Any]:
    stored = keys[0].stored
    return {
        "out": str(settings.out.absolute()),
        "store": str(stored.directory.absolute()),
        "layout": stored.layout,
        "protocol": settings.protocol or stored.task.protocol or DEFAULT_PROTOCOL,
        "grid": settings.grid,
        "exact": settings.exact,
        "lm": None if settings.lm is None else str(settings.lm.absolute()),
        "device": device,
        "content": keys[0].content,
        "seeds": [key.seed for key in keys],
        "inputs_sha256": [key.inputs_sha256 for key in keys],
    }


def _sender(stored: StoredTask) -> Callable[[], Sent]:
    def load() -> Sent:
        files = {
            path.name: path.read_bytes()
            for path in sorted(stored.directory.iterdir())
            if path.suffix in (".json", ".csv", ".txt") and path.stat().st_size <= MOST_BYTES
        }
        sets = {split: _plain(read_embeddings(stored, split)) for split in stored.task.splits}
        return Sent(stored, files, sets)

    return load


def _plain(found: EmbeddingSet) -> EmbeddingSet:
    """Return the set with arrays that are no maps of files, so that they travel without copies."""
    times = found.timestamps_ms
    return replace(
        found,
        embeddings=np.asarray(found.embeddings).view(np.ndarray),
        offsets=np.asarray(found.offsets).view(np.ndarray),
        timestamps_ms=None if times is None else np.asarray(times).view(np.ndarray),
    )


def _take(session: ProbeSession, keys: Sequence[Key], result: Any) -> None:
    """Write what a worker sent, and note how its units ended."""
    if isinstance(result, Lost):
        result = ProtocolError(f"{result.reason}; the same command tries it again")
    for i, key in enumerate(keys):
        if isinstance(result, MambabenchError):
            session.finished(key, result)
            continue
        told = result[i]
        if told["failure"] is not None:
            kind = Inapplicable if told["inapplicable"] else ProtocolError
            session.finished(key, kind(told["failure"]))
            continue
        for suffix, data in told.get("files", {}).items():
            write_bytes(key.stem.with_suffix(suffix), memoryview(data))  # type: ignore[arg-type]
        record = read_record(key.stem.with_suffix(".json"))
        session.finished(key, Recorded(record, told["seconds"]))


_plan: SharedPlan | None = None  # of the units done last in this process
# folder with the small files of the store that was sent last, by its content
_folder: tuple[str, tempfile.TemporaryDirectory[str]] | None = None


def probe_unit(spec: dict[str, Any], report: Callable[[Any], None]) -> list[dict[str, Any]]:
    """Train and score some seeds of one (encoder, task, protocol); tell how each ended.

    Where ``spec["shared"]`` holds the store, the bytes of the records come with it.
    """
    sent: Sent | None = spec.get("shared")
    if sent is None:
        return _probed(spec, _opened(spec), Path(spec["out"]), with_files=False)
    with scratch_folder("probe") as scratch:
        stored = _unpacked(spec["content"], sent)
        return _probed(spec, stored, scratch, with_files=True)


def _unpacked(content: str, sent: Sent) -> StoredTask:
    """Return the store that was sent: its arrays stay where they are in memory."""
    global _folder
    if _folder is None or _folder[0] != content:
        _folder = (content, tempfile.TemporaryDirectory(prefix="mambabench-store-"))
        for name, data in sent.files.items():
            write_bytes(Path(_folder[1].name) / name, data)
    hold(sent.stored.directory, sent.sets)
    task = replace(sent.stored.task, directory=Path(_folder[1].name))
    return replace(sent.stored, task=task)


def _opened(spec: dict[str, Any]) -> StoredTask:
    directory = Path(spec["store"])
    kit = spec["layout"] == "hear-eval-kit"
    found = hear_eval_kit_read.stored_task(directory) if kit else stored_task(directory)
    if found is None:
        raise StoreError(f"{directory} holds no finished embeddings, or is not to be seen here")
    return found


def _probed(
    spec: dict[str, Any], stored: StoredTask, out: Path, *, with_files: bool
) -> list[dict[str, Any]]:
    global _plan
    lm = None if spec["lm"] is None else Path(spec["lm"])
    protocol = resolve_protocol(spec["protocol"], spec["grid"], spec["exact"], lm)
    encoder, task = encoder_key(stored.encoder), stored.task.name
    keys = [
        Key(
            stored=stored,
            protocol=protocol,
            seed=seed,
            stem=record_stem(out, encoder, task, protocol.name, seed),
            inputs_sha256=inputs,
            content=spec["content"],
        )
        for seed, inputs in zip(spec["seeds"], spec["inputs_sha256"], strict=True)
    ]
    took: dict[int, float] = {}

    def note(progress: ProbeProgress) -> None:
        took[progress.record.seed] = progress.seconds

    session = ProbeSession(keys, note, plan=_plan)
    session.run(1, spec["device"])
    _plan = session.plan
    done = session.result(out)
    failures = {f.seed: (f.reason, False) for f in done.failures}
    failures |= {f.seed: (f.reason, True) for f in done.unavailable}
    told = []
    for key in keys:
        reason, inapplicable = failures.get(key.seed, (None, False))
        one: dict[str, Any] = {"seconds": took[key.seed], "failure": reason}
        one["inapplicable"] = inapplicable
        if with_files and reason is None:
            one["files"] = {s: np.fromfile(key.stem.with_suffix(s), np.uint8) for s in FILES}
        told.append(one)
    return told
