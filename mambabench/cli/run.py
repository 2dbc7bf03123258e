"""``mambabench run``: extract, probe and report in one resumable output folder."""

from __future__ import annotations

import sys
from typing import Any

import click

from mambabench.cli import options
from mambabench.pipeline import RUN_OPTIONS


@click.command("run")
@options.of_run(RUN_OPTIONS)
@options.traceback
def command(**arguments: Any) -> int:
    """Do extract, probe and report in one resumable folder.

    Without options: the generated demo, two encoders, ten seeds. Interrupt it at any time: the
    same command continues. Exit code 1 if a clip or a unit failed.
    """
    import shutil

    from mambabench.cli.extract import show_extracted
    from mambabench.cli.probe import show_probed
    from mambabench.cli.progress import Display
    from mambabench.cli.report import echo, show_written
    from mambabench.pipeline import run

    color = sys.stdout.isatty()
    quiet = arguments["format"] != "terminal"
    with Display() as display:
        done = run(
            **arguments,
            width=shutil.get_terminal_size((120, 24)).columns if color else 120,
            color=color,
            on_stage=display.stage,
            on_extract=display.extract,
            on_probe=display.probe,
        )
    if not quiet or done.extracted.failed:
        show_extracted(done.extracted)
    if done.probed is not None and (not quiet or done.probed.failures):
        show_probed(done.probed)
    if done.reported is not None:
        echo(done.reported.text)
    stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in done.seconds.items())
    click.echo(f"\n{stages}; in all {sum(done.seconds.values()):.1f} s", err=quiet)
    if done.reported is not None:
        show_written(done.reported, quiet=quiet)
    return 1 if done.failed else 0
