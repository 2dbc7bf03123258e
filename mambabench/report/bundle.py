"""Records and page in one archive, without audio and embeddings: what a reviewer needs to check.

The archive is a ZIP whose bytes follow from its files alone: sorted names, one date, one mode.
``bundle.json`` in it lists every other file with its hash.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from mambabench.errors import StoreError
from mambabench.files import atomic_write, sha256_bytes
from mambabench.report.results import read_runs
from mambabench.report.verb import report
from mambabench.selfhash import hashed_json, parse_hashed

__all__ = ["CONTENTS", "SCHEMA", "Bundled", "bundle", "unpack"]

SCHEMA = "mambabench.bundle/1"
CONTENTS = "bundle.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date that a ZIP can have
_MOST_BYTES = 64 << 30  # of an unpacked archive: more is none of ours
_PAGES = ("report.html", "report.json", "scores.csv", "comparisons.csv", "references.bib")


@dataclass(frozen=True)
class Bundled:
    """What was packed."""

    path: Path
    n_records: int
    restricted: tuple[str, ...]  # tasks whose records were left out: they hold names of clips
    digest: str  # SHA-256 of the archive


def bundle(out: Path | str = "mambabench-out", to: Path | str | None = None) -> Bundled:
    """Pack the records, predictions and report of an output folder into ``<out>.zip``, or `to`.

    The report is made anew first. Audio and embeddings stay where they are, and so do the records
    of restricted tasks, whose predictions hold names of clips; their scores stand in the report.
    StoreError where there is no record of ours.
    """
    out = Path(out)
    path = Path(to) if to is not None else out.with_name(f"{out.resolve().name}.zip")
    runs = [run for run in read_runs([out]) if run.source == "mambabench"]
    open_runs = [run for run in runs if not run.record.restricted]
    if not open_runs:
        why = "all of its tasks are restricted" if runs else "there is no record of probe"
        raise StoreError(f"{out}: nothing to pack: {why}")
    made = report(out, plot="none")
    if made.note:
        raise StoreError(
            f"{out}: the report cannot be written, so it cannot be packed: {made.note}"
        )
    files: dict[str, Path] = {}
    for run in open_runs:
        for suffix in (".json", ".npz", ".provenance.json"):
            file = run.path.with_suffix("").with_suffix(suffix)
            if file.is_file():
                files[file.relative_to(out).as_posix()] = file
    files |= {f"report/{name}": out / "report" / name for name in _PAGES}
    atomic_write(path, lambda file: _pack(file, files))
    restricted = sorted({run.record.task for run in runs if run.record.restricted})
    digest = sha256_bytes(path.read_bytes())
    return Bundled(path, len(open_runs), tuple(restricted), digest)


def _pack(file: IO[bytes], files: dict[str, Path]) -> None:
    hashes: dict[str, str] = {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            data = files[name].read_bytes()
            hashes[name] = sha256_bytes(data)
            archive.writestr(_entry(name), data, compresslevel=9)
        body = hashed_json({"schema": SCHEMA, "files": hashes})
        archive.writestr(_entry(CONTENTS), body, compresslevel=9)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.external_attr = 0o644 << 16
    entry.create_system = 3  # the same on every system
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def unpack(path: Path, folder: Path) -> list[tuple[str, str]]:
    """Unpack a bundle into a folder and check it; return (name, problem) of what does not hold.

    StoreError for what is no bundle, and for names that would lie outside of the folder.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _fenced(path, entries)
            contents = _contents(archive.read(CONTENTS))
            return _extract(archive, entries, contents, folder)
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise StoreError(
            f"{path}: is no bundle, or is cut short ({error}): ask for it again; "
            "`mambabench bundle` makes one"
        ) from error


def _fenced(path: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    for entry in entries:
        parts = PurePosixPath(entry.filename).parts
        if entry.filename.startswith("/") or ".." in parts or "\\" in entry.filename:
            raise StoreError(f"{path}: {entry.filename!r} would lie outside: this is no bundle")
    if sum(entry.file_size for entry in entries) > _MOST_BYTES:
        raise StoreError(f"{path}: would unpack to more than {_MOST_BYTES >> 30} GB")


def _contents(data: bytes) -> dict[str, str]:
    body: dict[str, Any] = parse_hashed(data)
    if body.get("schema") != SCHEMA:
        raise ValueError(f"{CONTENTS} is not of schema {SCHEMA}")
    return {str(name): str(digest) for name, digest in body["files"].items()}


def _extract(
    archive: zipfile.ZipFile,
    entries: Sequence[zipfile.ZipInfo],
    contents: dict[str, str],
    folder: Path,
) -> list[tuple[str, str]]:
    problems = []
    there = {entry.filename for entry in entries} - {CONTENTS}
    for name in sorted(set(contents) - there):
        problems.append((name, f"is listed in {CONTENTS} and not there"))
    for name in sorted(there):
        data = _read(archive, name)
        if name not in contents:
            problems.append((name, f"is not listed in {CONTENTS}"))
        elif data is None or sha256_bytes(data) != contents[name]:
            problems.append((name, f"is not what {CONTENTS} lists: its hash differs"))
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data or b"")
    return problems


def _read(archive: zipfile.ZipFile, name: str) -> bytes | None:
    try:
        return archive.read(name)
    except zipfile.BadZipFile:  # its checksum differs
        return None


def as_json(done: Bundled) -> str:
    """Return what was packed as one JSON object."""
    body = {
        "schema": SCHEMA,
        "path": str(done.path),
        "n_records": done.n_records,
        "restricted": list(done.restricted),
        "sha256": done.digest,
    }
    return json.dumps(body, indent=2)
