"""`mambabench probe`: train and score the heads of every seed, grid point and fold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mambabench.cli import options

if TYPE_CHECKING:
    from mambabench.probe.verb import ProbeRun

__all__ = ["command", "show_probed"]


@click.command()
@options.seeds
@options.protocol
@options.grid
@options.exact
@options.jobs
@options.device
@options.one_out
@options.task
@options.encoder
@options.layout
def command(
    seeds: int,
    protocol: str | None,
    grid: str,
    exact: bool,
    jobs: int | None,
    device: str,
    out: Path,
    task: tuple[str, ...],
    encoder: tuple[str, ...],
    layout: str,
) -> Any:
    """Train and score heads on stored embeddings.

    Finished units are left alone: the same command continues an interrupted run. Exit code 1 if a
    unit failed; its reason is in its record and the others are done.
    """
    from mambabench.cli.progress import Display
    from mambabench.probe.verb import probe

    with Display() as display:
        display.stage("probe", "opening the store")
        run = probe(
            seeds,
            protocol,
            grid,
            exact,
            jobs=jobs,
            device=device,
            out=out,
            task=task,
            encoder=encoder,
            layout=layout,
            progress=display.probe,
        )
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
