"""`mambabench probe`: train and score the heads of every seed, grid point and fold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mambabench.cli import options
from mambabench.probe.settings import ProbeSettings

if TYPE_CHECKING:
    from mambabench.probe.verb import ProbeRun

__all__ = ["command", "show_probed"]


@click.command()
@options.of_settings(ProbeSettings)
def command(**arguments: Any) -> int:
    """Train and score heads on stored embeddings.

    Finished units are left alone: the same command continues an interrupted run. Exit code 1 if a
    unit failed; its reason is in its record and the others are done.
    """
    from mambabench.cli.estimates import show_estimates
    from mambabench.cli.progress import Display
    from mambabench.probe.verb import probe

    with Display() as display:
        display.stage("probe", "opening the store")
        run = probe(**arguments, progress=display.probe)
    if run.estimates:
        show_estimates(run.estimates)
        return 0
    show_probed(run)
    return 1 if run.failures else 0


def show_probed(run: ProbeRun) -> None:
    """Print what became of every unit: cells without a score, failures, counts."""
    for cell in run.unavailable:
        click.echo(f"not available: {cell.encoder} on {cell.task}: {cell.reason}", err=True)
    for failure in run.failures:
        where = f"{failure.encoder} on {failure.task}, seed {failure.seed}"
        click.echo(f"failed: {where}: {failure.reason}", err=True)
    click.echo(
        f"probed: {run.n_trained} units trained, {run.n_present} there already, "
        f"{len(run.failures)} failed; records in {run.out / 'probes'}"
    )
