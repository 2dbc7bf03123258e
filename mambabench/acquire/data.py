"""Task archives: get several at once, import, verify, and say what is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mambabench.acquire.archives import Archive
from mambabench.acquire.fetch import OnBytes, RemoteFile, fetch, remote_size
from mambabench.acquire.unpack import RECORD_FOLDER, Unpacked, UnpackLimits, unpack_tasks
from mambabench.errors import DataError, MambabenchError
from mambabench.files import sha256_file
from mambabench.reading.json_files import read_json_object

__all__ = [
    "GetOptions",
    "Got",
    "PlannedDownload",
    "TaskStatus",
    "VerifiedFiles",
    "cache_folder",
    "get",
    "plan",
    "status",
    "verify",
]


@dataclass(frozen=True)
class GetOptions:
    """How archives are got."""

    into: Path  # parent of the task directories
    downloads: Path
    sample_rate_hz: int = 48000
    mirror: str | None = None
    checksum: str | None = None  # for a single archive
    keep_archives: bool = False
    jobs: int = 2
    limits: UnpackLimits = field(default_factory=UnpackLimits)


@dataclass(frozen=True)
class PlannedDownload:
    """One archive before it is downloaded: what the user should know."""

    archive: Archive
    file: RemoteFile
    size_bytes: int | None  # as the host says
    present: bool  # that sample rate is unpacked already


@dataclass(frozen=True)
class Got:
    """What came of one archive."""

    name: str
    directories: tuple[Path, ...]
    error: str | None


@dataclass(frozen=True)
class TaskStatus:
    """What is there of one task directory."""

    directory: Path
    rates: dict[int, str]  # sample rate -> "archive", "resampled" or "other"
    n_clips: dict[int, int]


@dataclass(frozen=True)
class VerifiedFiles:
    """Every file of a task directory against the hashes taken when it was unpacked."""

    directory: Path
    n_files: int
    missing: tuple[str, ...]
    changed: tuple[str, ...]
    recorded: bool  # False: it was not unpacked by this program, nothing to compare with


def cache_folder() -> Path:
    """Return the folder of downloads, in the user's cache directory."""
    import pooch

    return Path(pooch.os_cache("mambabench"))


def plan(archives: Sequence[Archive], options: GetOptions) -> tuple[PlannedDownload, ...]:
    """Ask the hosts for sizes, so that nothing large is begun unannounced. Raises DataError."""
    if options.checksum and len(archives) != 1:
        raise DataError("a checksum belongs to one archive: name exactly one")
    planned = []
    for archive in archives:
        file = archive.remote(options.sample_rate_hz, options.mirror, options.checksum)
        present = (options.into / archive.directory / str(options.sample_rate_hz)).is_dir()
        planned.append(
            PlannedDownload(archive, file, None if present else remote_size(file), present)
        )
    return tuple(planned)


def get(
    planned: Sequence[PlannedDownload], options: GetOptions, *, progress: OnBytes | None = None
) -> tuple[Got, ...]:
    """Download, check and unpack the archives, several at once; one's failure stops no other."""

    def one(item: PlannedDownload) -> Got:
        if item.present:
            return Got(item.file.name, (options.into / item.archive.directory,), None)
        try:
            path = fetch(item.file, options.downloads, progress=progress)
            unpacked = unpack_tasks(
                path,
                options.into,
                source=item.file.url,
                limits=options.limits,
                progress=_renamed(progress),
            )
        except MambabenchError as error:
            return Got(item.file.name, (), str(error))
        if not options.keep_archives:
            path.unlink(missing_ok=True)
        return Got(item.file.name, _directories(unpacked), None)

    with ThreadPoolExecutor(options.jobs) as pool:
        return tuple(pool.map(one, planned))


def _renamed(progress: OnBytes | None) -> OnBytes | None:
    if progress is None:
        return None
    return lambda name, done, total: progress(f"unpacking {name}", done, total)


def _directories(unpacked: Sequence[Unpacked]) -> tuple[Path, ...]:
    return tuple(u.directory for u in unpacked)


def status(into: Path) -> tuple[TaskStatus, ...]:
    """Return the task directories directly below `into` with their sample rates."""
    if not into.is_dir():
        return ()
    found = []
    for directory in sorted(p.parent for p in into.glob("*/task_metadata.json")):
        rates, counts = {}, {}
        for folder in directory.iterdir():
            if not (folder.is_dir() and folder.name.isdigit()):
                continue
            rate = int(folder.name)
            record = directory / RECORD_FOLDER
            made = {"archive": f"archive-{rate}.json", "resampled": f"resampled-{rate}.json"}
            origin = [name for name, file in made.items() if (record / file).is_file()]
            rates[rate] = origin[0] if origin else "other"
            counts[rate] = sum(1 for p in folder.rglob("*") if p.is_file())
        found.append(TaskStatus(directory, dict(sorted(rates.items())), counts))
    return tuple(found)


def verify(
    directory: Path, *, progress: Callable[[str, int, int | None], None] | None = None
) -> VerifiedFiles:
    """Compare the files of a task directory with the hashes recorded when it was unpacked."""
    if not (directory / "task_metadata.json").is_file():
        raise DataError(f"{directory} is no task directory: it has no task_metadata.json")
    expected: dict[str, str] = {}
    for record in sorted((directory / RECORD_FOLDER).glob("archive-*.json")):
        files = read_json_object(record, remedy="unpack the archive again").get("files")
        expected |= files if isinstance(files, dict) else {}
    missing, changed = [], []
    for i, (name, digest) in enumerate(sorted(expected.items()), 1):
        path = directory / name
        if not path.is_file():
            missing.append(name)
        elif sha256_file(path) != digest:
            changed.append(name)
        if progress is not None:
            progress(directory.name, i, len(expected))
    return VerifiedFiles(directory, len(expected), tuple(missing), tuple(changed), bool(expected))
