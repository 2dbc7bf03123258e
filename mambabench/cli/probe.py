"""`mambabench probe`: train and score the heads of every seed, grid point and fold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mambabench.cli import options

if TYPE_CHECKING:
    from mambabench.probe.verb import ProbeRun

__all__ = ["ProbeLines", "command", "show_probed"]


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
    from mambabench.probe.verb import probe

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
        progress=ProbeLines(),
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


class ProbeLines:
    """One line per (encoder, task) on standard error, with the mean so far and the time left.

    Where a protocol hardly trains, a warning follows once per (encoder, task, protocol).
    """

    def __init__(self) -> None:
        import time

        self._clock = time.monotonic
        self._started = self._clock()
        self._trained = 0
        self._said = 0.0
        self._warned: set[tuple[str, str, str]] = set()

    def __call__(self, progress: Any) -> None:
        self._trained += progress.seconds > 0
        self._warn(progress.record)
        now = self._clock()
        last = progress.n_done == progress.n_total
        if not last and now - self._said < 2.0:
            return
        self._said = now
        left = ""
        if self._trained and not last:
            seconds = (now - self._started) / self._trained * (progress.n_total - progress.n_done)
            left = f", about {seconds:.0f} s left"
        record = progress.record
        score = "no score" if record.score is None else f"{record.metric} {record.score:.3f}"
        click.echo(
            f"{progress.n_done}/{progress.n_total} {record.encoder} {record.task} "
            f"{record.protocol} seed {record.seed}: {score}{left}",
            err=True,
        )

    def _warn(self, record: Any) -> None:
        from mambabench.probe.small_sets import hardly_trained

        unit = (record.encoder, record.task, record.protocol)
        said = None if unit in self._warned else hardly_trained(record)
        if said is not None:
            self._warned.add(unit)
            click.echo(f"warning: {' '.join(unit)}: {said}", err=True)
