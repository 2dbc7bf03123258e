"""``mambabench embed``: embed one's own audio files."""

from __future__ import annotations

from pathlib import Path

import click

from mambabench.cli import options

__all__ = ["command"]


@click.command("embed")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE..."
)
@click.option(
    "--encoder",
    required=True,
    metavar="E",
    help="Registered name, dotted module or path of a HEAR-API .py file; E@PATH adds a checkpoint.",
)
@click.option("--timestamps", is_flag=True, help="One embedding per frame, with its time.")
@options.hop_ms
@options.device
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.npz|.npy|.csv",
    help="Where the embeddings go; the ending chooses the format.",
)
@options.traceback
@options.as_json
def command(
    files: tuple[Path, ...],
    encoder: str,
    timestamps: bool,
    hop_ms: float | None,
    device: str,
    output: Path,
) -> int:
    """Embed your own audio, of any sample rate and channel count."""
    from mambabench.extract.embed import embed

    done = embed(files, encoder, timestamps=timestamps, hop_ms=hop_ms, output=output, device=device)
    n_rows, dim = done.embedding.shape
    what = "frames" if timestamps else "files"
    click.echo(f"{output}: {n_rows} {what} x {dim} from {done.encoder}")
    return 0
