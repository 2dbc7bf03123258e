"""``mambabench weights``: checkpoints of the published encoders."""

from __future__ import annotations

from pathlib import Path

import click

from mambabench.cli import completion, options
from mambabench.errors import MambabenchError

__all__ = ["command"]


@click.group(name="weights")
def command() -> None:
    """Get, import, convert and show checkpoints."""


@command.command(name="list")
@options.as_json
def list_() -> None:
    """Say which published weights are on this machine."""
    from mambabench.acquire.weights import SOURCES
    from mambabench.cli.json_out import tell
    from mambabench.cli.tables import print_table
    from mambabench.models.weights.convert import list_weights

    rows = [
        (
            entry.name,
            str(path) if path else "no",
            "weights get" if entry.name in SOURCES else "by hand (weights import)",
        )
        for entry, path in list_weights()
    ]
    tell(weights=[{"encoder": e, "path": None if p == "no" else p, "how": h} for e, p, h in rows])
    print_table(("encoder", "on this machine", "how to get it"), rows)


@command.command(name="show")
@options.as_json
@click.argument("path", type=click.Path(path_type=Path))
def show(path: Path) -> None:
    """Say what the checkpoint PATH is, and whose."""
    from mambabench.cli.json_out import tell
    from mambabench.models.weights.convert import describe_weights

    found = describe_weights(path)
    facts = {
        "file": found.path,
        "encoder": " or ".join(found.encoders) or "none that is known",
        "tensors": found.n_tensors,
        "parameters": f"{found.n_parameters:,}",
        "content sha256": found.content_sha256,
        "form": "converted" if found.converted else "as published",
        "wrapper": found.wrapper or "none",
        "key prefix": found.prefix or "none",
    }
    tell(**{key.replace(" ", "_"): value for key, value in facts.items()})
    for key, value in facts.items():
        click.echo(f"{key:16} {value}")


@command.command(name="get")
@options.as_json
@click.argument(
    "names", nargs=-1, required=True, metavar="NAME...", shell_complete=completion.encoders
)
@click.option("--url", default=None, help="Address of the file, for a single NAME.")
@click.option("--checksum", default=None, help="md5:... or sha256:... of that file.")
@click.option("--yes", is_flag=True, help="Do not ask before a large download.")
def get(names: tuple[str, ...], url: str | None, checksum: str | None, yes: bool) -> int:
    """Download weights, check that they fit, and convert them to where encoders look.

    NAME is a registered encoder, or hf@OWNER/NAME: a public Hugging Face repository, which
    `--encoder hf@OWNER/NAME` then runs. Size and licence are shown first.
    """
    from mambabench.acquire.data import cache_folder
    from mambabench.acquire.fetch import remote_size
    from mambabench.acquire.weights import get_weights, remote_weights
    from mambabench.cli.tables import TransferProgress
    from mambabench.models.registry import find_entry

    if (url or checksum) and len(names) != 1:
        raise click.UsageError("--url and --checksum belong to one NAME")
    code = 0
    for name in names:
        try:
            if name.startswith("hf@"):
                _get_repository(name, yes)
                continue
            file = remote_weights(name, url, checksum)
            size = remote_size(file)
            stated = f"{size / 1e6:.1f} MB" if size is not None else "unknown size"
            click.echo(f"{file.url}: {stated}, licence: {find_entry(name).licence or 'not stated'}")
            if (size is None or size > 1 << 30) and not yes:
                click.confirm("Download it?", abort=True, err=True)
            with TransferProgress() as progress:
                path = get_weights(name, file, cache_folder() / "downloads", progress=progress)
            click.echo(f"{name}: {path}")
        except MambabenchError as error:
            click.echo(f"{name}: {error}", err=True)
            code = 1
    return code


def _get_repository(name: str, yes: bool) -> None:
    from mambabench.acquire.hf_repository import get_repository, look_up
    from mambabench.cli.tables import TransferProgress

    found = look_up(name.removeprefix("hf@"))
    stated = f"{found.n_bytes / 1e6:.1f} MB" if found.n_bytes is not None else "unknown size"
    click.echo(
        f"{found.name} at {found.commit[:12]}: {stated}, licence: {found.licence or 'not stated'}"
    )
    if (found.n_bytes is None or found.n_bytes > 1 << 30) and not yes:
        click.confirm("Download it?", abort=True, err=True)
    with TransferProgress() as progress:
        folder = get_repository(found, progress=progress)
    click.echo(f"{name}: {folder}")


@command.command(name="import")
@options.as_json
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", default=None, help="The encoder, where several share a layout.")
def import_(path: Path, name: str | None) -> None:
    """Check a file that you have and convert it to where encoders look for their weights."""
    from mambabench.models.weights.convert import import_checkpoint

    found = import_checkpoint(path, name)
    click.echo(f"{found.encoders[0]}: {found.path}")


@command.command(name="convert")
@options.as_json
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--name", default=None, help="The encoder, where several share a layout.")
@click.option("--export", is_flag=True, help="Back to the authors' form instead.")
def convert(path: Path, out: Path, name: str | None, export: bool) -> None:
    """Convert a checkpoint to safetensors with its configuration, or back."""
    from mambabench.models.weights.convert import convert_checkpoint, export_checkpoint

    found = export_checkpoint(path, out) if export else convert_checkpoint(path, out, name)
    click.echo(f"{' or '.join(found.encoders)}: {found.path}")
