"""Unpack a task archive without trusting it: every member's path, kind and size is checked."""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mambabench.errors import DataError
from mambabench.files import sha256_file, write_json
from mambabench.reading.json_files import read_json_object

__all__ = ["RECORD_FOLDER", "UnpackLimits", "Unpacked", "unpack_tasks"]

RECORD_FOLDER = ".mambabench"  # in a task directory: what came from where, with hashes


@dataclass(frozen=True)
class UnpackLimits:
    """What an archive may grow to before it is taken for a bomb."""

    free_bytes: int = 1 << 30  # anything up to this size is accepted
    ratio: float = 60.0  # beyond it, unpacked may be this much larger than packed
    n_members: int = 2_000_000


@dataclass(frozen=True)
class Unpacked:
    """One task directory that was added, or to which a sample rate was added."""

    directory: Path
    n_files: int
    archive_sha256: str


def unpack_tasks(
    archive: Path,
    into: Path,
    *,
    source: str = "",
    limits: UnpackLimits = UnpackLimits(),
    progress: Callable[[str, int, int | None], None] | None = None,
) -> tuple[Unpacked, ...]:
    """Unpack the task directories of `archive` (a tar, plain or compressed) below `into`.

    A task directory is whatever holds a ``task_metadata.json``. Everything is unpacked beside its
    place and moved there when the whole archive was read, so a broken archive leaves nothing. A
    directory that exists gets the archive's further sample rates, if its metadata agree. Raises
    DataError naming the archive and the member.
    """
    if not archive.is_file():
        raise DataError(f"no archive {archive}: give the path of a .tar.gz file")
    into.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".unpacking-", suffix=".tmp", dir=into))
    try:
        hashes = _extract(archive, staging, limits, progress)
        roots = sorted(p.parent for p in staging.rglob("task_metadata.json"))
        if not roots:
            raise DataError(
                f"{archive.name} holds no task directory (no task_metadata.json in it): it is not "
                "a HEAR task archive"
            )
        _refuse_conflicts(archive, roots, into)
        digest = sha256_file(archive)
        origin = {"archive": archive.name, "archive_sha256": digest, "source": source}
        return tuple(_install(root, into, staging, hashes, origin) for root in roots)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _extract(
    archive: Path,
    staging: Path,
    limits: UnpackLimits,
    progress: Callable[[str, int, int | None], None] | None,
) -> dict[str, str]:
    """Write the regular files of the archive; return path -> SHA-256."""
    packed = archive.stat().st_size
    allowed = max(limits.free_bytes, int(limits.ratio * packed))
    hashes: dict[str, str] = {}
    written = 0
    with _readable(archive), tarfile.open(archive, "r:*") as tar:
        for i, member in enumerate(tar):
            if i >= limits.n_members:
                raise DataError(f"{archive.name} has over {limits.n_members:,} members: refused")
            path = _safe_path(archive, member)
            if member.isdir():
                continue
            written += member.size
            _refuse_bomb(archive, written, allowed, staging)
            hashes[str(path)] = _write(tar, member, staging / path)
            if progress is not None:
                progress(archive.name, written, None)
    return hashes


@contextlib.contextmanager
def _readable(archive: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(
            f"{archive} is truncated or no tar archive ({type(error).__name__}: {error}): get it "
            "again"
        ) from error


def _safe_path(archive: Path, member: tarfile.TarInfo) -> PurePosixPath:
    path = PurePosixPath(member.name)
    if path.is_absolute() or "\\" in member.name or "\0" in member.name:
        raise DataError(f"{archive.name}: member {member.name!r} has an absolute or odd path")
    if ".." in path.parts:
        raise DataError(f"{archive.name}: member {member.name!r} leads out of the folder")
    if not (member.isreg() or member.isdir()):
        kind = "link" if member.issym() or member.islnk() else "device or other special file"
        raise DataError(f"{archive.name}: member {member.name!r} is a {kind}; only files belong in")
    return path


def _refuse_bomb(archive: Path, written: int, allowed: int, staging: Path) -> None:
    if written > allowed:
        raise DataError(
            f"{archive.name} unpacks to more than {allowed:,} bytes from "
            f"{archive.stat().st_size:,}: refused as a decompression bomb"
        )
    if written > shutil.disk_usage(staging).free:
        raise DataError(f"{archive.name} needs more space than {staging.parent} has left")


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> str:
    """Write one regular file with plain permissions; never through a link."""
    stream = tar.extractfile(member)
    assert stream is not None  # regular files have one
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    with stream, os.fdopen(os.open(path, flags, 0o644), "wb") as file:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _refuse_conflicts(archive: Path, roots: list[Path], into: Path) -> None:
    names = [root.name for root in roots]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{archive.name} holds the task directory {name} twice")
    for root in roots:
        present = into / root.name
        for file in sorted(root.glob("*.json")) + sorted(root.glob("*.csv")):
            other = present / file.name
            if other.is_file() and other.read_bytes() != file.read_bytes():
                raise DataError(
                    f"{archive.name}: {root.name}/{file.name} differs from {other}: the archive is "
                    "another version of that task; move the old directory away first"
                )


def _install(
    root: Path, into: Path, staging: Path, hashes: dict[str, str], origin: dict[str, str]
) -> Unpacked:
    """Move a staged task directory to its place, or its new sample rates into the one there."""
    prefix = str(root.relative_to(staging))
    own = {p[len(prefix) + 1 :]: h for p, h in hashes.items() if p.startswith(prefix + "/")}
    rates = sorted(p.name for p in root.iterdir() if p.is_dir() and p.name.isdigit())
    label = rates[0] if rates else "labels"
    record = {"schema": "mambabench.archive/1", **origin, "files": own}
    target = into / root.name
    if not target.exists():
        write_json(root / RECORD_FOLDER / f"archive-{label}.json", record)
        os.replace(root, target)
        return Unpacked(target, len(own), origin["archive_sha256"])
    for rate in rates:
        if (target / rate).exists():
            record_of_old = target / RECORD_FOLDER / f"archive-{rate}.json"
            if record_of_old.is_file() and (
                read_json_object(record_of_old, remedy="unpack into another folder").get(
                    "archive_sha256"
                )
                == origin["archive_sha256"]
            ):
                continue  # the same archive again
            raise DataError(
                f"{target / rate} exists and did not come from this archive: move it away first"
            )
        os.replace(root / rate, target / rate)
    write_json(target / RECORD_FOLDER / f"archive-{label}.json", record)
    return Unpacked(target, len(own), origin["archive_sha256"])
