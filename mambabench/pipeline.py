"""The three verbs in one: extract, probe and report in one resumable output folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mambabench.errors import StoreError
from mambabench.experiment import (
    Experiment,
    experiment_of,
    is_default,
    read_experiment,
)
from mambabench.extract.outcome import Extracted, ExtractProgress
from mambabench.extract.verb import extract_with
from mambabench.files import toml_text, write_bytes
from mambabench.preflight import check_protocol
from mambabench.probe.verb import ProbeProgress, ProbeRun, probe_planned, probe_with
from mambabench.report.settings import TableSettings
from mambabench.report.verb import ReportResult, check_format, report
from mambabench.settings import Names, Paths, option_names
from mambabench.store.estimate import Estimate, estimates_html

__all__ = ["STORED_AS", "PipelineRun", "Watch", "run", "run_with"]

STORED_AS = "experiment.toml"  # in the output folder: what the latest run was asked for


@dataclass(frozen=True)
class PipelineRun:
    """What a run did, stage by stage; a stage that was not reached is None."""

    extracted: Extracted
    probed: ProbeRun | None
    reported: ReportResult | None
    seconds: dict[str, float]  # stage -> wall time
    estimates: tuple[Estimate, ...] = ()  # of a dry run, all stages

    @property
    def failed(self) -> bool:
        """Say whether something failed and is recorded as such."""
        if self.estimates:
            return False
        return self.extracted.failed or self.probed is None or self.probed.failed

    def _repr_html_(self) -> str:
        """Show the report in a notebook, or how far the run came."""
        if self.estimates:
            return estimates_html(self.estimates)
        shown = self.reported or self.probed or self.extracted
        return shown._repr_html_()


def run(
    encoder: Names = (),
    tasks: Paths = (),
    task: Names = (),
    out: Path | str = "mambabench-out",
    *,
    config: Path | str | None = None,
    width: int = 120,
    color: bool = False,
    on_stage: Callable[[str], None] | None = None,
    on_extract: Callable[[ExtractProgress], None] | None = None,
    on_probe: Callable[[ProbeProgress], None] | None = None,
    **options: Any,
) -> PipelineRun:
    """Extract, probe and report; `options` are those of ``mambabench run``: ``seeds=3``.

    Only what this call names is probed, whatever else `out` holds; the report shows all of `out`.
    An unfinished extraction stops the run before probing. The same call continues an interrupted
    one. `config` is a TOML file of the same options; what is given here beside it and is no default
    goes before it. What was asked for is kept as ``out/experiment.toml``. Raises MambabenchError on
    bad input, before anything is computed where that can be known.
    """
    given = {"encoder": encoder, "tasks": tasks, "task": task, "out": out, **options}
    watch = Watch(on_stage or (lambda stage: None), on_extract, on_probe)
    if config is None:
        return run_with(experiment_of(given), watch, width=width, color=color)
    over = {name: value for name, value in given.items() if not is_default(name, value)}
    return run_with(read_experiment(Path(config), over), watch, width=width, color=color)


@dataclass(frozen=True)
class Watch:
    """Who is told how far a run is."""

    stage: Callable[[str], None] = lambda stage: None
    extract: Callable[[ExtractProgress], None] | None = None
    probe: Callable[[ProbeProgress], None] | None = None


def _store(experiment: Experiment) -> None:
    """Keep what a run is asked for beside its results; what another run was asked for stays too."""
    out = experiment.extract.out
    data = toml_text(experiment.plain()).encode()
    path = out / STORED_AS
    try:
        if path.is_file():
            before = path.read_bytes()
            if before == data:
                return
            number = 1
            while (kept := out / f"experiment-{number}.toml").exists():
                number += 1
            write_bytes(kept, before)
        write_bytes(path, data)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}; choose another --out"
        ) from error


def run_with(
    experiment: Experiment, watch: Watch = Watch(), *, width: int = 120, color: bool = False
) -> PipelineRun:
    """Do what `run` does, told by settings."""

    check_protocol(experiment.probe)
    check_format(experiment.report.format)
    if experiment.extract.dry_run:
        return _dry_run(experiment, watch)
    _store(experiment)
    seconds = {}
    watch.stage("1/3 extract")
    start = time.perf_counter()
    extracted = extract_with(experiment.extract, watch.extract)
    seconds["extract"] = time.perf_counter() - start
    if any(outcome.state == "incomplete" for outcome in extracted.outcomes):
        return PipelineRun(extracted, None, None, seconds)
    watch.stage("2/3 probe")
    start = time.perf_counter()
    done = extracted.outcomes
    chosen = replace(
        experiment.probe,
        task=tuple(dict.fromkeys(outcome.task for outcome in done)),
        encoder=tuple(dict.fromkeys(outcome.encoder for outcome in done)),
    )
    probed = probe_with(chosen, watch.probe)
    seconds["probe"] = time.perf_counter() - start
    watch.stage("3/3 report")
    start = time.perf_counter()
    shown = experiment.report
    out = experiment.extract.out
    looks = {name: getattr(experiment.table, name) for name in option_names(TableSettings)}
    reported = report(
        (out,),
        shown.format,
        shown.baseline,
        engine=experiment.probe.engine,
        per_node=experiment.probe.per_node,
        width=width,
        color=color,
        **looks,
    )
    seconds["report"] = time.perf_counter() - start
    return PipelineRun(extracted, probed, reported, seconds)


def _dry_run(experiment: Experiment, watch: Watch) -> PipelineRun:
    """Return what all stages would take."""

    watch.stage("1/2 extract")
    extracted = extract_with(experiment.extract)
    watch.stage("2/2 probe")
    probes = probe_planned(experiment.probe, extracted.planned)
    return PipelineRun(extracted, None, None, {}, estimates=(*extracted.estimates, *probes))
