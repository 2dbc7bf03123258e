"""``mambabench embed``: embed one's own audio files."""

from __future__ import annotations

from pathlib import Path

import click

from mambabench.cli import completion, options, show_error
from mambabench.errors import EncoderError
from mambabench.models.naming import short_name

__all__ = ["command"]


@click.command("embed")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE..."
)
@click.option(
    "--encoder",
    required=True,
    multiple=True,
    shell_complete=completion.encoders,
    metavar="E",
    help="Registered name, dotted module or path of a HEAR-API .py file; E@PATH adds a checkpoint. "
    "Repeatable: each encoder has an output of its own.",
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
    encoder: tuple[str, ...],
    timestamps: bool,
    hop_ms: float | None,
    device: str,
    output: Path,
) -> int:
    """Embed your own audio, of any sample rate and channel count.

    FILE is an audio file or a folder of some. With several encoders FILE.npz becomes
    FILE.<encoder>.npz; one that fails does not stop the others: exit code 1.
    """
    from mambabench.extract.embed import embed
    from mambabench.models.registry import encoder_list
    from mambabench.store.embeddings import encoder_key

    names = encoder_list(encoder)
    failed = False
    for name in names:
        own = output
        if len(names) > 1:
            own = output.with_name(f"{output.stem}.{encoder_key(short_name(name))}{output.suffix}")
        try:
            done = embed(
                files, name, timestamps=timestamps, hop_ms=hop_ms, output=own, device=device
            )
        except EncoderError as error:
            if len(names) == 1:
                raise
            show_error(error)
            failed = True
            continue
        n_rows, dim = done.embedding.shape
        what = "frames" if timestamps else "files"
        click.echo(f"{own}: {n_rows} {what} x {dim} from {done.encoder}")
    return 1 if failed else 0
