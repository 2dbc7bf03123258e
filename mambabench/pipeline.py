"""The three verbs in one: extract, probe and report in one resumable output folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mambabench.errors import MambabenchError, ProtocolError, nearest_names
from mambabench.extract.settings import ExtractSettings
from mambabench.probe.settings import ProbeSettings
from mambabench.report.settings import ReportSettings
from mambabench.settings import Names, Paths, as_plain, option_names, settings_of

if TYPE_CHECKING:
    from mambabench.extract.verb import Extracted, Progress
    from mambabench.probe.verb import ProbeProgress, ProbeRun
    from mambabench.report.verb import ReportResult

__all__ = [
    "RUN_OPTIONS",
    "Experiment",
    "PipelineRun",
    "Watch",
    "experiment_of",
    "run",
    "run_with",
]


@dataclass(frozen=True)
class PipelineRun:
    """What a run did, stage by stage; a stage that was not reached is None."""

    extracted: Extracted
    probed: ProbeRun | None
    reported: ReportResult | None
    seconds: dict[str, float]  # stage -> wall time

    @property
    def failed(self) -> bool:
        """Say whether something failed and is recorded as such."""
        return self.extracted.failed or self.probed is None or bool(self.probed.failures)


def run(
    encoder: Names = (),
    tasks: Paths = (),
    task: Names = (),
    out: Path | str = "mambabench-out",
    *,
    width: int = 120,
    color: bool = False,
    on_stage: Callable[[str], None] | None = None,
    on_extract: Callable[[Progress], None] | None = None,
    on_probe: Callable[[ProbeProgress], None] | None = None,
    **options: Any,
) -> PipelineRun:
    """Extract, probe and report; `options` are those of ``mambabench run``: ``seeds=3``.

    Only what this call names is probed, whatever else `out` holds; the report shows all of `out`.
    An unfinished extraction stops the run before probing. The same call continues an interrupted
    one. Raises MambabenchError on bad input, before anything is computed where that can be known.
    """
    given = {"encoder": encoder, "tasks": tasks, "task": task, "out": out, **options}
    watch = Watch(on_stage or (lambda stage: None), on_extract, on_probe)
    return run_with(experiment_of(given), watch, width=width, color=color)


@dataclass(frozen=True)
class Experiment:
    """All that a run is told: settings of its three stages."""

    extract: ExtractSettings
    probe: ProbeSettings
    report: ReportSettings

    def plain(self) -> dict[str, Any]:
        """Return every setting once, as JSON and TOML hold it; not given is left out."""
        parts = [as_plain(part) for part in (self.report, self.probe, self.extract)]
        found = {name: value for part in parts for name, value in part.items()}
        return {name: found[name] for name in RUN_OPTIONS if found[name] is not None}


@dataclass(frozen=True)
class Watch:
    """Who is told how far a run is."""

    stage: Callable[[str], None] = lambda stage: None
    extract: Callable[[Progress], None] | None = None
    probe: Callable[[ProbeProgress], None] | None = None


_STAGES = (ExtractSettings, ProbeSettings, ReportSettings)
_NOT_OF_RUN = ("shard", "verify")  # a run is whole, and `verify` a verb
# name -> a class that declares it: the options of ``mambabench run`` and of configuration files
RUN_OPTIONS: dict[str, type] = {
    name: stage for stage in _STAGES for name in option_names(stage) if name not in _NOT_OF_RUN
}


def experiment_of(values: Mapping[str, Any], where: str = "") -> Experiment:
    """Return checked settings of a run; MambabenchError, with the nearest, for unknown names."""
    for name in values:
        if name not in RUN_OPTIONS:
            raise MambabenchError(f"{where}no setting {name!r}{nearest_names(name, RUN_OPTIONS)}")
    extract, probe, report = (
        settings_of(
            stage, {n: values[n] for n in option_names(stage) if n in values}, where, ProtocolError
        )
        for stage in _STAGES
    )
    return Experiment(
        cast(ExtractSettings, extract), cast(ProbeSettings, probe), cast(ReportSettings, report)
    )


def run_with(
    experiment: Experiment, watch: Watch = Watch(), *, width: int = 120, color: bool = False
) -> PipelineRun:
    """Do what `run` does, told by settings."""
    from mambabench.extract.verb import extract_with
    from mambabench.probe.verb import probe_with
    from mambabench.report.verb import report

    _check_protocol(experiment.probe)
    seconds = {}
    watch.stage("1/3 extract")
    start = time.perf_counter()
    extracted = extract_with(experiment.extract, watch.extract)
    seconds["extract"] = time.perf_counter() - start
    if extracted.failed:
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
    reported = report((out,), shown.format, shown.baseline, width=width, color=color)
    seconds["report"] = time.perf_counter() - start
    return PipelineRun(extracted, probed, reported, seconds)


def _check_protocol(probe: ProbeSettings) -> None:
    """Refuse a wrong protocol before the encoder has run for hours."""
    from mambabench.probe.protocols import DEFAULT_PROTOCOL, resolve_protocol

    grid = "default" if probe.protocol is None else probe.grid
    resolve_protocol(probe.protocol or DEFAULT_PROTOCOL, grid, probe.exact)
