"""``mambabench data``: HEAR task archives, from the network or from your own disk."""

from __future__ import annotations

from pathlib import Path

import click

from mambabench.cli import completion, options
from mambabench.errors import MambabenchError

__all__ = ["command"]

_LARGE = 1 << 30  # bytes; above it the user is asked

into = click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("tasks"),
    show_default=True,
    help="Parent folder of the task directories.",
)


@click.group(name="data")
def command() -> None:
    """Get, import, verify and resample task archives."""


@command.command(name="list")
@options.as_json
def list_() -> None:
    """Name the published HEAR archives."""
    from mambabench.acquire.archives import ARCHIVES
    from mambabench.cli.json_out import tell
    from mambabench.cli.tables import print_table

    rows = [
        (a.task, a.directory, "md5" if a.md5_48k else "none published", a.unpacked, licence)
        for a in ARCHIVES
        for licence in (a.licence.partition(" (")[0].partition(":")[0],)
    ]
    tell(archives=ARCHIVES)
    headings = ("name", "task directory", "checksum", "unpacked", "licence")
    print_table(headings, rows, optional=("unpacked", "checksum"))


@command.command(name="get")
@options.as_json
@click.argument(
    "names", nargs=-1, required=True, metavar="NAME...", shell_complete=completion.archives
)
@into
@click.option("--rate", type=int, default=48000, show_default=True, help="Archive's sample rate.")
@click.option("--resample", type=int, multiple=True, help="Also make this rate. Repeatable.")
@click.option("--mirror", default=None, help="Base URL that serves the archives by their names.")
@click.option("--checksum", default=None, help="md5:... or sha256:... of a single archive.")
@click.option("--downloads", type=click.Path(path_type=Path), default=None, help="Download folder.")
@click.option("--keep-archives", is_flag=True, help="Keep the archives after unpacking.")
@click.option("--yes", is_flag=True, help="Do not ask before a large download.")
@options.jobs
def get_(
    names: tuple[str, ...],
    into: Path,
    rate: int,
    resample: tuple[int, ...],
    mirror: str | None,
    checksum: str | None,
    downloads: Path | None,
    keep_archives: bool,
    yes: bool,
    jobs: int | None,
) -> int:
    """Download archives, check them, unpack them below --into; NAME is a task or "all"."""
    from mambabench.acquire.archives import find_archives
    from mambabench.acquire.data import GetOptions, cache_folder, get, plan
    from mambabench.cli.tables import TransferProgress, print_table

    wanted = GetOptions(
        into=into,
        downloads=downloads or cache_folder() / "downloads",
        sample_rate_hz=rate,
        mirror=mirror,
        checksum=checksum,
        keep_archives=keep_archives,
        jobs=jobs or 2,
    )
    planned = plan(find_archives(names), wanted)
    rows = [
        (
            p.file.name,
            "present" if p.present else _size(p.size_bytes),
            p.file.checksum or "no published checksum",
            p.archive.licence,
        )
        for p in planned
    ]
    print_table(("archive", "download", "checksum", "licence"), rows)
    total = sum(p.size_bytes or 0 for p in planned)
    unknown = any(p.size_bytes is None and not p.present for p in planned)
    if (total > _LARGE or unknown) and not yes:
        click.confirm(
            f"Download {_size(total)}{' or more' if unknown else ''}?", abort=True, err=True
        )
    with TransferProgress() as progress:
        results = get(planned, wanted, progress=progress)
        failed = [r for r in results if r.error]
        for result in results:
            for directory in result.directories:
                for target in resample:
                    _resample(directory, target, jobs, progress)
    for result in results:
        click.echo(f"{result.name}: {result.error or ', '.join(map(str, result.directories))}")
    return 1 if failed else 0


def _size(n_bytes: int | None) -> str:
    if n_bytes is None:
        return "unknown size"
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"


def _resample(directory: Path, rate: int, jobs: int | None, progress: object) -> int:
    import os

    from mambabench.acquire.resample import resample_task

    n_jobs = jobs or os.cpu_count() or 1
    return resample_task(directory, rate, jobs=n_jobs, progress=progress)  # type: ignore[arg-type]


@command.command(name="import")
@options.as_json
@click.argument("archives", nargs=-1, required=True, type=click.Path(path_type=Path))
@into
def import_(archives: tuple[Path, ...], into: Path) -> int:
    """Unpack archives that you have already, with the same checks."""
    from mambabench.acquire.unpack import unpack_tasks
    from mambabench.cli.tables import TransferProgress

    code = 0
    for archive in archives:
        try:
            with TransferProgress() as progress:
                unpacked = unpack_tasks(archive, into, source=str(archive), progress=progress)
        except MambabenchError as error:
            click.echo(f"{archive}: {error}", err=True)
            code = 1
            continue
        for u in unpacked:
            click.echo(f"{u.directory}: {u.n_files} files")
    return code


@command.command(name="verify")
@options.as_json
@click.argument("directories", nargs=-1, type=click.Path(path_type=Path))
@into
def verify_(directories: tuple[Path, ...], into: Path) -> int:
    """Compare task directories with the hashes taken when they were unpacked."""
    from mambabench.acquire.data import status, verify
    from mambabench.cli.tables import TransferProgress

    chosen = directories or tuple(s.directory for s in status(into))
    if not chosen:
        raise click.UsageError(f"no task directory below {into}: name one")
    code = 0
    for directory in chosen:
        with TransferProgress() as progress:
            result = verify(directory, progress=progress)
        if not result.recorded:
            click.echo(f"{directory}: not unpacked by mambabench, nothing to compare with")
            continue
        click.echo(
            f"{directory}: {result.n_files} files, {len(result.missing)} missing, "
            f"{len(result.changed)} changed"
        )
        for kind, names in (("missing", result.missing), ("changed", result.changed)):
            for name in names:
                click.echo(f"  {kind}: {name}")
        code = 1 if result.missing or result.changed else code
    return code


@command.command(name="resample")
@options.as_json
@click.argument("directories", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--rate", type=int, multiple=True, required=True, help="Sample rate. Repeatable.")
@options.jobs
def resample_(directories: tuple[Path, ...], rate: tuple[int, ...], jobs: int | None) -> None:
    """Add sample rates to task directories, in parallel."""
    from mambabench.cli.tables import TransferProgress

    for directory in directories:
        for target in rate:
            with TransferProgress() as progress:
                n_clips = _resample(directory, target, jobs, progress)
            done = f"{n_clips} clips" if n_clips else "present already"
            click.echo(f"{directory} at {target} Hz: {done}")


@command.command(name="status")
@options.as_json
@into
def status_(into: Path) -> None:
    """Say which task directories and sample rates are there."""
    from mambabench.acquire.data import status
    from mambabench.cli.json_out import tell
    from mambabench.cli.tables import print_table

    found = status(into)
    tell(tasks=found)
    if not found:
        click.echo(f"no task directory below {into}")
        return
    rows = []
    for s in found:
        rows += [
            (s.directory.name, f"{rate} Hz", str(s.n_clips[rate]), origin)
            for rate, origin in s.rates.items()
        ] or [(s.directory.name, "no audio", "0", "")]
    print_table(("task directory", "sample rate", "clips", "from"), rows)


@command.command(name="precompute")
@options.as_json
@click.argument(
    "sources", nargs=-1, required=True, metavar="FOLDER|LIST...", type=click.Path(path_type=Path)
)
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of the tars.",
)
@click.option("--clips-per-tar", type=click.IntRange(min=1), default=1024, show_default=True)
@click.option(
    "--labels", type=click.Path(path_type=Path), default=None, help="Label CSV of .json lists."
)
@options.on_error
@options.jobs
def precompute_(
    sources: tuple[Path, ...],
    to: Path,
    clips_per_tar: int,
    labels: Path | None,
    on_error: str,
    jobs: int | None,
) -> int:
    """Write the log-mels of audio as tars for `mambabench train ssam`; resumable.

    FOLDER is searched with all below it; LIST is a .json of AST's form.
    """
    import os

    from mambabench.train.precompute import describe, precompute

    done = precompute(
        sources,
        to,
        clips_per_tar=clips_per_tar,
        labels=labels,
        on_error=on_error,
        jobs=jobs or os.cpu_count() or 1,
        progress=lambda n, total: click.echo(f"{n} of {total} tars", err=True),
    )
    click.echo(describe(done))
    for path, why in done.skipped.items():
        click.echo(f"left out: {path}: {why}", err=True)
    return 1 if done.skipped else 0


@command.command(name="lists")
@options.as_json
@click.argument("corpus")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of the lists.",
)
def lists_(corpus: str, source: Path, to: Path) -> int:
    """Write the lists that `mambabench train` takes from CORPUS in its own layout at SOURCE."""
    from mambabench.train.corpora import prepare_lists

    for name, n in prepare_lists(corpus, source, to).items():
        click.echo(f"{to / name}: {n}")
    return 0
