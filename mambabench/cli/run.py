"""``mambabench run``: extract, probe and report in one resumable output folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mambabench.cli import options
from mambabench.experiment import RUN_OPTIONS

if TYPE_CHECKING:
    from mambabench.pipeline import PipelineRun


@click.command("run")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    help="Read these options from a file; what is given on the command line goes before it.",
)
@options.of_run(RUN_OPTIONS)
@options.traceback
@options.as_json
@click.pass_context
def command(context: click.Context, /, config: Path | None, **arguments: Any) -> int:
    """Do extract, probe and report in one resumable folder.

    Without options: the generated demo, two encoders, ten seeds. Interrupt it at any time: the
    same command continues. Exit code 1 if a clip or a unit failed.
    """
    import shutil

    from mambabench.cli.estimates import show_estimates
    from mambabench.cli.extract import show_extracted
    from mambabench.cli.probe import show_probed
    from mambabench.cli.progress import Display
    from mambabench.cli.report import echo, refuse_terminal, show_written
    from mambabench.experiment import experiment_of, read_experiment
    from mambabench.pipeline import Watch, run_with

    given = {name: value for name, value in arguments.items() if _is_given(context, name)}
    experiment = experiment_of(given) if config is None else read_experiment(config, given)
    refuse_terminal(experiment.report.format)
    color = sys.stdout.isatty()
    quiet = experiment.report.format != "terminal"
    with Display() as display:
        done = run_with(
            experiment,
            Watch(display.stage, display.extract, display.probe),
            width=shutil.get_terminal_size((120, 24)).columns if color else 120,
            color=color,
        )
    _tell(done)
    if done.estimates:
        show_estimates(done.estimates)
        return 0
    if not quiet or done.extracted.failed:
        show_extracted(done.extracted)
    if done.probed is not None and (not quiet or done.probed.failures):
        show_probed(done.probed)
    if done.reported is not None:
        echo(done.reported.data or done.reported.text)
    stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in done.seconds.items())
    click.echo(f"\n{stages}; in all {sum(done.seconds.values()):.1f} s", err=quiet)
    if done.reported is not None:
        show_written(done.reported, quiet=quiet)
    return 1 if done.failed else 0


def _tell(done: PipelineRun) -> None:
    """Say for --json what every stage did, and what the report says."""
    import json

    from mambabench.cli.json_out import tell

    tell(failed=done.failed, seconds=done.seconds, estimates=done.estimates)
    tell(outcomes=done.extracted.outcomes, probed=done.probed)
    if done.reported is not None:
        from mambabench.report.formats.json_text import as_json

        tell(report=json.loads(as_json(done.reported.summary)), files=done.reported.files)


def _is_given(context: click.Context, name: str) -> bool:
    """Say whether an option stands on the command line."""
    from click.core import ParameterSource

    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE
