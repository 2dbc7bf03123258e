"""``mambabench extract``: encode the clips of tasks into an embedding store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mambabench.cli import options, show_error
from mambabench.extract.settings import ExtractSettings

if TYPE_CHECKING:
    from mambabench.extract.outcome import Extracted

__all__ = ["command", "show_extracted"]


@click.command("extract")
@options.of_settings(ExtractSettings)
@click.option(
    "--text-encoder",
    default=None,
    metavar="T",
    help="Encode texts instead (sentiment tasks): words[:DIM] or a local model directory.",
)
@options.traceback
@options.as_json
def command(text_encoder: str | None, **arguments: Any) -> int:
    """Encode the clips of tasks into an embedding store.

    Interrupt it at any time: the same command continues.
    """
    if text_encoder is not None:
        from mambabench.store.texts import extract_texts

        for folder in extract_texts(
            text_encoder, arguments["tasks"], arguments["task"], arguments["out"]
        ):
            click.echo(f"texts: {folder}")
        if not arguments["encoder"]:
            return 0
    from mambabench.cli.estimates import show_estimates
    from mambabench.cli.json_out import tell
    from mambabench.cli.progress import Display
    from mambabench.extract.verb import extract

    with Display() as display:
        display.stage("extract", "reading tasks and loading encoders")
        done = extract(**arguments, progress=display.extract)
    tell(out=done.out, outcomes=done.outcomes, audio_s=done.audio_s, elapsed_s=done.elapsed_s)
    tell(failed=done.failed, estimates=done.estimates)
    if done.estimates:
        show_estimates(done.estimates)
        return 0
    show_extracted(done)
    return 1 if done.failed else 0


def show_extracted(done: Extracted) -> None:
    """Print what became of every encoder and task, missing clips by name."""
    from mambabench.cli.lines import print_wrapped

    for outcome in done.outcomes:
        missing = f", {len(outcome.missing)} missing" if outcome.missing else ""
        print_wrapped(
            f"{outcome.encoder} on {outcome.task}: {outcome.n_clips} clips{missing}, "
            f"{_STATES[outcome.state]}{_changed(outcome.changed)}"
        )
        for clip in list(outcome.changed)[:20]:
            click.echo(f"  {clip}: its audio is not what was encoded before", err=True)
        alike: dict[str, list[str]] = {}  # reason -> the clips that are missing for it
        for clip, reason in outcome.missing.items():
            alike.setdefault(reason, []).append(clip)
        for reason, clips in list(alike.items())[:20]:
            more = f" and {len(clips) - 1} more" if len(clips) > 1 else ""
            click.echo(f"  {clips[0]}{more}: {reason}", err=True)
        if rest := sum(map(len, list(alike.values())[20:])):
            click.echo(f"  and {rest} more", err=True)
        for clip, note in list(outcome.warnings.items())[:20]:
            click.echo(f"  warning: {clip}: {note}", err=True)
        if len(outcome.warnings) > 20:
            click.echo(f"  and {len(outcome.warnings) - 20} more warnings", err=True)
        if outcome.state == "incomplete":
            click.echo(
                f"  not finished: mend these clips and give the same command again, or accept "
                f"their absence with --on-error skip (list: {outcome.directory / 'missing.json'})",
                err=True,
            )
    for error in done.broken:
        show_error(error)
    if done.audio_s:
        rate = done.audio_s / done.elapsed_s
        print_wrapped(
            f"encoded {done.audio_s:.0f} s of audio in {done.elapsed_s:.1f} s "
            f"({rate:.1f} x real time) into {Path(done.out) / 'embeddings'}"
        )


# what people read; JSON keeps the words
_STATES = {
    "sealed": "stored",
    "already": "stored before",
    "waiting": "waiting for other shards",
    "incomplete": "incomplete",
}


def _changed(changed: dict[str, int]) -> str:
    """Return "; 2 changed clips: shards 3, 7 encoded anew", or nothing."""
    if not changed:
        return ""
    numbers = sorted(set(changed.values()))
    shown = ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
    return (
        f"; {len(changed)} changed clip{'s' * (len(changed) > 1)}: "
        f"shard{'s' * (len(numbers) > 1)} {shown} encoded anew"
    )
