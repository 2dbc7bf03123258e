"""Check run records, their predictions, and whether they follow from what is stored now."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from mambabench.errors import MambabenchError, StoreError
from mambabench.probe.data import task_fingerprint
from mambabench.probe.protocols import resolve_protocol
from mambabench.probe.verb import inputs_sha256
from mambabench.report.checked import defect_of
from mambabench.selfhash import parse_hashed
from mambabench.store.embeddings import StoredTask, encoder_key
from mambabench.store.records import RunRecord, parse_record, protocol_folder
from mambabench.verification.finding import Finding, is_temporary

__all__ = ["Fingerprints", "check_cache", "check_probes", "damaged_archive"]

_AGAIN = "delete the files of this seed and probe again"
_ENDS = (".json", ".npz", ".provenance.json")


class Fingerprints:
    """The inputs of probes by encoder, task and identity, as the stores are now."""

    def __init__(self, stored: Sequence[StoredTask]) -> None:
        self._stored: dict[tuple[str, str], list[StoredTask]] = {}
        for one in stored:
            self._stored.setdefault((one.encoder, one.task.name), []).append(one)
        self._known: dict[tuple[str, str], list[str]] = {}

    def stale(self, record: RunRecord) -> bool:
        """Tell whether the store is there and the record does not follow from it."""
        key = (record.encoder, record.task)
        if key not in self._stored:
            return False
        if key not in self._known:
            self._known[key] = [task_fingerprint(one) for one in self._stored[key]]
        name, exact = record.protocol.removesuffix("+exact"), record.protocol.endswith("+exact")
        base, _, grid = name.partition("/")
        protocol = resolve_protocol(base, grid or "default", exact)
        models = {fold.grid_point.get("language_model_sha256") for fold in record.folds} - {None}
        more = "".join(f" {sha256}" for sha256 in models)  # as `Protocol.adds_to` has it
        return all(
            inputs_sha256(fingerprint + more, protocol, record.seed) != record.inputs_sha256
            for fingerprint in self._known[key]
        )


def check_probes(probes: Path, fingerprints: Fingerprints) -> Iterator[Finding]:
    """Yield what is wrong below OUT/probes."""
    for folder in sorted(p for p in probes.glob("*/*/*") if p.is_dir()):
        for path in sorted(folder.iterdir()):
            if is_temporary(path):
                problem = "is the temporary file of a write that was cut off"
                remedy = "delete it, unless a command is running now"
                yield Finding(path, "leftover", problem, remedy, (path,))
            elif path.suffix == ".work" and path.is_dir():
                yield from _work(path)
            elif path.name.endswith(".provenance.json"):
                yield from _provenance(path)
            elif path.suffix == ".json" and path.name.startswith("seed-"):
                yield from _record(path, fingerprints)
            elif path.suffix == ".npz" and path.name.startswith("seed-"):
                if not path.with_suffix(".json").is_file():
                    problem = "has no record: the write was cut off, or the record was deleted"
                    yield Finding(path, "leftover", problem, "probe again", _files(path))
            else:
                problem = "is no file of a probe"
                yield Finding(path, "stray", problem, "move it elsewhere", (path,))


def _files(path: Path) -> tuple[Path, ...]:
    stem = path.name.partition(".")[0]
    return tuple(p for end in _ENDS if (p := path.parent / (stem + end)).is_file())


def _record(path: Path, fingerprints: Fingerprints) -> Iterator[Finding]:
    try:
        data = path.read_bytes()
        record = parse_record(path, data)
    except (OSError, StoreError) as error:
        problem = f"is damaged ({error.__cause__ or error})"
        yield Finding(path, "damaged", problem, _AGAIN, _files(path))
        return
    place = (encoder_key(record.encoder), record.task, protocol_folder(record.protocol))
    if path.parent.parts[-3:] != place or path.stem != f"seed-{record.seed:03d}":
        problem = f"says that it is seed {record.seed} of {'/'.join(place)}"
        yield Finding(path, "stray", problem, _AGAIN, _files(path))
        return
    defect = defect_of(path, data, record, every=True)
    if defect is not None:
        yield Finding(defect.path, "damaged", defect.problem, _AGAIN, _files(path))
        return
    if not path.with_suffix(".npz").is_file():
        problem = "has lost its predictions, from which intervals are computed"
        yield Finding(path, "damaged", problem, _AGAIN, _files(path))
        return
    try:
        stale = fingerprints.stale(record)
    except MambabenchError:  # its store is damaged, which is found there, or its protocol is gone
        return
    if stale:
        problem = "does not follow from the embeddings and labels that are stored now"
        yield Finding(path, "stale", problem, "probe again: it is trained anew", _files(path))


def _provenance(path: Path) -> Iterator[Finding]:
    try:
        parse_hashed(path.read_bytes())
    except KeyError:
        return  # an older version wrote no hash
    except (OSError, ValueError):
        problem, remedy = "has not the hash that it states", "delete it: no result depends on it"
        yield Finding(path, "damaged", problem, remedy, (path,))


def _work(folder: Path) -> Iterator[Finding]:
    """Check the trials of an unfinished seed; a finished one needs none."""
    if folder.with_suffix(".json").is_file():
        yield Finding(folder, "leftover", "is of a finished seed", "delete it", (folder,))
        return
    for path in sorted(folder.iterdir()):
        if is_temporary(path) or damaged_archive(path):
            problem = "is a trial that was cut off or damaged"
            yield Finding(path, "leftover", problem, "delete it and probe again", (path,))


def check_cache(cache: Path) -> Iterator[Finding]:
    """Yield what cannot be read below OUT/report/cache; all of it is computed again."""
    for path in sorted(cache.glob("*.npz")):
        if damaged_archive(path):
            problem = "cannot be read"
            yield Finding(path, "damaged", problem, "delete it and report again", (path,))


def damaged_archive(path: Path) -> bool:
    """Tell whether an archive's own checksums fail."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is not None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return True
