"""Read run records and refuse what does not hold: hashes, and scores against predictions.

What held once is remembered in ``<out>/report/cache/verified.json`` by size, times and inode of
record and predictions, so that the next report reads neither the predictions nor their hashes.
Deleting that file is harmless.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mambabench.errors import MambabenchError, StoreError
from mambabench.files import sha256_file, write_bytes
from mambabench.store.records import (
    DamagedRecordError,
    RunRecord,
    parse_record,
    read_predictions,
    stated_predictions_sha256,
)
from mambabench.store.rescore import contradiction

__all__ = ["CheckedRecord", "DistrustedFile", "check_records", "defect_of", "verified"]

Verify = Callable[[Sequence[Path]], frozenset[Path]]  # records -> those that hold
_VERSION = 2  # of the checks: raise it when they find more
# what arrays of another shape or kind may raise in a metric
_UNSCORABLE = (MambabenchError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
_REMEDY = "delete {} and probe again, or let `mambabench verify --fix` move it aside"


@dataclass(frozen=True)
class DistrustedFile:
    """A file that a report does not trust."""

    path: Path
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}; {self.remedy}"


@dataclass(frozen=True)
class CheckedRecord:
    """A record's file, and what may be reported of it.

    A record with a defect has neither score nor folds, and the defect as its reason. `record` is
    None where the file is so damaged that not even its metric is known.
    """

    path: Path
    record: RunRecord | None
    digest: str  # SHA-256 of the file's bytes and of its defect
    defect: DistrustedFile | None = None
    lost_predictions: bool = False  # it states the hash of predictions that are not there


def check_records(
    paths: Sequence[Path], cache: Path | None, verify: Verify | None = None
) -> tuple[CheckedRecord, ...]:
    """Read and check every record; `cache` is the file that remembers what held.

    `verify` is asked first about the records that it does not know: those that it returns hold.
    """
    known = _load(cache)
    holds: dict[str, object] = {}
    checked = []
    looks = {path: [_seen(path), _seen(path.with_suffix(".npz"))] for path in paths}
    unknown = [path for path in paths if known.get(str(path.absolute())) != looks[path]]
    held = verify(unknown) if verify is not None and unknown else frozenset()
    trusted = (set(paths) - set(unknown)) | held
    for path in paths:
        name = str(path.absolute())
        as_stored = looks[path]
        one = _checked(path, trusted=path in trusted)
        if one.defect is None:
            holds[name] = as_stored
        checked.append(one)
    if cache is not None and cache.parent.is_dir() and not holds.items() <= known.items():
        body = {"version": _VERSION, "holds": {**known, **holds}}
        with suppress(OSError):  # a folder that is read-only: check again next time
            write_bytes(cache, json.dumps(body).encode(), durable=False)
    return _with_placeholders(checked)


def _seen(path: Path) -> list[int] | None:
    """Return size, times of change in ns and inode of `path`; None where it cannot be looked at.

    The second time is that of the inode: it tells of writers who set the first one back.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def verified(path: Path) -> bool:
    """Whether the record at `path` has the hash that it states, and its predictions agree."""
    try:
        data = path.read_bytes()
        return defect_of(path, data, parse_record(path, data)) is None
    except (StoreError, OSError):
        return False


def _load(cache: Path | None) -> dict[str, object]:
    if cache is None:
        return {}
    try:
        body = json.loads(cache.read_bytes())
        return dict(body["holds"]) if body["version"] == _VERSION else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _checked(path: Path, *, trusted: bool) -> CheckedRecord:
    try:
        data = path.read_bytes()
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        digest = hashlib.sha256(f"{path.name} {problem}".encode()).hexdigest()
        return CheckedRecord(path, None, digest, _distrusted(path, problem))
    digest = hashlib.sha256(data).hexdigest()
    try:
        record = parse_record(path, data, check=not trusted)
    except DamagedRecordError as error:
        problem = "was edited or damaged: it has not the hash that it states"
        if not isinstance(error.__cause__, ValueError) or "hash" not in str(error.__cause__):
            problem = f"is no run record ({error.__cause__})"
        defect = _distrusted(path, problem)
        with suppress(StoreError):
            return _refused(path, parse_record(path, data, check=False), digest, defect)
        return CheckedRecord(path, None, digest, defect)
    except StoreError:  # what the fields of another schema mean is not known
        problem = f"is of schema {json.loads(data)['schema']!r}, which this version does not read"
        return CheckedRecord(path, None, digest, _distrusted(path, problem))
    found = None if trusted else defect_of(path, data, record)
    if found is not None:
        return _refused(path, record, digest, found)
    if stated_predictions_sha256(data) and not path.with_suffix(".npz").is_file():
        digest = hashlib.sha256(f"{digest} without predictions".encode()).hexdigest()
        return CheckedRecord(path, record, digest, lost_predictions=True)
    return CheckedRecord(path, record, digest)


def _distrusted(path: Path, problem: str) -> DistrustedFile:
    return DistrustedFile(path, problem, _REMEDY.format(path.name))


def defect_of(
    path: Path, data: bytes, record: RunRecord, *, every: bool = False
) -> DistrustedFile | None:
    """Hold predictions against the record `path` with the bytes `data`: their hash, their scores.

    `every` computes all metrics again, not the primary one alone. Absent predictions are no defect
    here: nothing contradicts the record then, and nothing holds it (`lost_predictions`).
    """
    file = path.with_suffix(".npz")
    if not file.is_file():
        return None
    remedy = _REMEDY.format(path.name)
    stated = stated_predictions_sha256(data)
    try:
        if stated and sha256_file(file) != stated:
            return DistrustedFile(file, "has not the hash that its record states", remedy)
        wrong = contradiction(record, read_predictions(path), every=every)
    except OSError as error:
        return DistrustedFile(file, f"cannot be read ({error.strerror})", remedy)
    except _UNSCORABLE as error:
        why = f"it has no array {error}" if isinstance(error, KeyError) else error
        return DistrustedFile(file, f"cannot be scored ({why})", remedy)
    return None if wrong is None else DistrustedFile(path, wrong, remedy)


def _refused(path: Path, record: RunRecord, digest: str, defect: DistrustedFile) -> CheckedRecord:
    reason = f"refused: {defect.path.name} {defect.problem}"
    untrusted = replace(record, score=None, folds=(), reason=reason)
    marked = hashlib.sha256(f"{digest} {reason}".encode()).hexdigest()
    return CheckedRecord(path, untrusted, marked, defect)


def _with_placeholders(checked: Sequence[CheckedRecord]) -> tuple[CheckedRecord, ...]:
    """Give a record without content the fields of another seed's, so that its row shows it."""
    there = {one.path.parent: one.record for one in reversed(checked) if one.record is not None}
    result = []
    for one in checked:
        like = there.get(one.path.parent)
        seed = one.path.stem.removeprefix("seed-")
        if one.record is None and one.defect is not None and like is not None and seed.isdigit():
            one = _refused(one.path, replace(like, seed=int(seed)), one.digest, one.defect)
        result.append(one)
    return tuple(result)
