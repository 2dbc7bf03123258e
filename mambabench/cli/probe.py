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
@options.as_json
def command(**arguments: Any) -> int:
    """Train and score heads on stored embeddings.

    Finished units are left alone: the same command continues an interrupted run. Exit code 1 if a
    unit failed; its reason is in its record and the others are done.
    """
    from mambabench.cli.estimates import show_estimates
    from mambabench.cli.json_out import plain, tell
    from mambabench.cli.progress import Display
    from mambabench.probe.verb import probe

    with Display() as display:
        display.stage("probe", "opening the store")
        run = probe(**arguments, progress=display.probe)
    tell(**plain(run), failed=run.failed)
    if run.estimates:
        show_estimates(run.estimates)
        return 0
    show_probed(run)
    return 1 if run.failed else 0


def show_probed(run: ProbeRun) -> None:
    """Print what became of every unit: cells without a score, failures, counts."""
    from mambabench.cli.lines import print_wrapped

    for cell in run.unavailable:
        print_wrapped(f"not available: {cell.encoder} on {cell.task}: {cell.reason}", err=True)
    for failure in run.failures:
        where = f"{failure.encoder} on {failure.task}, seed {failure.seed}"
        print_wrapped(f"failed: {where}: {failure.reason}", err=True)
    if run.failed and not run.failures:
        print_wrapped(
            "nothing here can be done by this protocol; `mambabench forget --protocol P` takes its "
            "empty records away",
            err=True,
        )
    print_wrapped(
        f"probed: {run.n_trained} units trained, {run.n_present} there already, "
        f"{len(run.failures)} failed; records in {run.out / 'probes'}"
    )
