"""`mambabench bundle`: records and page in one archive, for a reviewer."""

from __future__ import annotations

from pathlib import Path

import click

from mambabench.cli import options

__all__ = ["command"]


@click.command("bundle")
@options.one_out
@click.option(
    "--to",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.zip",
    help="The archive.  [default: DIR.zip beside DIR]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(out: Path, to: Path | None, as_json: bool) -> int:
    """Pack records, predictions and the report, without audio and embeddings.

    The same results give the same bytes on one day. `mambabench verify --out FILE.zip` checks such
    an archive. Records of restricted tasks stay at home, for they name clips.
    """
    from mambabench.report.bundle import as_json as body_of
    from mambabench.report.bundle import bundle

    done = bundle(out, to)
    if as_json:
        click.echo(body_of(done))
        return 0
    for task in done.restricted:
        click.echo(f"left out, as its predictions name restricted clips: {task}", err=True)
    size = done.path.stat().st_size / 1e6
    click.echo(f"{done.path}: {done.n_records} records, {size:.1f} MB, SHA-256 {done.digest}")
    click.echo(f"check it with: mambabench verify --out {done.path}")
    return 0
