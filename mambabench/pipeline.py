"""The three verbs in one: extract, probe and report in one resumable output folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mambabench.benchmarks import discover
from mambabench.errors import (
    EncoderError,
    MambabenchError,
    ProtocolError,
    StoreError,
    nearest_names,
)
from mambabench.extract.settings import ExtractSettings
from mambabench.files import toml_text, write_bytes
from mambabench.models.entry import BRIDGES
from mambabench.models.registry import encoder_list, find_entry, split_name
from mambabench.probe.settings import ProbeSettings
from mambabench.reading.toml_files import read_toml
from mambabench.report.names import read_names
from mambabench.report.settings import ReportSettings, TableSettings
from mambabench.settings import Names, Paths, as_plain, option_names, options_of, settings_of
from mambabench.store.estimate import Estimate, estimates_html

if TYPE_CHECKING:
    from mambabench.extract.verb import Extracted, ExtractProgress
    from mambabench.probe.verb import ProbeProgress, ProbeRun
    from mambabench.report.verb import ReportResult

__all__ = [
    "RUN_OPTIONS",
    "STORED_AS",
    "Experiment",
    "PipelineRun",
    "Watch",
    "experiment_of",
    "problems",
    "read_experiment",
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
    over = {name: value for name, value in given.items() if not _is_default(name, value)}
    return run_with(read_experiment(Path(config), over), watch, width=width, color=color)


@dataclass(frozen=True)
class Experiment:
    """All that a run is told: settings of its three stages."""

    extract: ExtractSettings
    probe: ProbeSettings
    report: ReportSettings
    # only configuration files tell
    table: TableSettings = field(default_factory=TableSettings)

    def plain(self) -> dict[str, Any]:
        """Return every setting once, as JSON and TOML hold it; not given is left out.

        How tables look stands below "report", unless all of it is as it is by default.
        """
        parts = [as_plain(part) for part in (self.report, self.probe, self.extract)]
        found = {name: value for part in parts for name, value in part.items()}
        plain = {name: found[name] for name in RUN_OPTIONS if found[name] is not None}
        if self.table != TableSettings():
            looks = {n: v for n, v in as_plain(self.table).items() if v is not None}
            plain[_REPORT] = looks
        return plain


@dataclass(frozen=True)
class Watch:
    """Who is told how far a run is."""

    stage: Callable[[str], None] = lambda stage: None
    extract: Callable[[ExtractProgress], None] | None = None
    probe: Callable[[ProbeProgress], None] | None = None


_STAGES = (ExtractSettings, ProbeSettings, ReportSettings)
_NOT_OF_RUN = ("shard", "verify")  # a run is whole, and `verify` a verb
# name -> a class that declares it: the options of ``mambabench run`` and of configuration files
RUN_OPTIONS: dict[str, type] = {
    name: stage for stage in _STAGES for name in option_names(stage) if name not in _NOT_OF_RUN
}


_REPORT, _ENCODERS = "report", "encoders"  # tables of a configuration file
STORED_AS = "experiment.toml"  # in the output folder: what the latest run was asked for


def read_experiment(file: Path, over: Mapping[str, Any] | None = None) -> Experiment:
    """Read a configuration file; `over` goes before what it says.

    It holds the options of ``mambabench run``, a table [encoders] of names and encoders, and a
    table [report] of the keywords of ``mambabench.report``. Paths are seen from where the command
    is given, as on the command line. Raises MambabenchError, naming the file, where it is missing,
    no TOML, or names what is no option (with the nearest).
    """
    remedy = "write options of `mambabench run` as `seeds = 10`; `mambabench config show` has all"
    values = read_toml(file, remedy=remedy, error=MambabenchError)
    if over and "encoder" in over:
        values.pop(_ENCODERS, None)
    return experiment_of({**values, **(over or {})}, f"{file}: ")


def _is_default(name: str, value: Any) -> bool:
    known = options_of(RUN_OPTIONS[name])[name].default if name in RUN_OPTIONS else ...
    return bool(value == known or (known == () and not value) or str(value) == str(known))


def experiment_of(values: Mapping[str, Any], where: str = "") -> Experiment:
    """Return checked settings of a run; MambabenchError, with the nearest, for unknown names."""
    values = _with_named_encoders(dict(values), where)
    looks = values.pop(_REPORT, {})
    if not isinstance(looks, Mapping):
        raise MambabenchError(f"{where}{_REPORT} is {looks!r}, but must be a table: [{_REPORT}]")
    own = {name: looks[name] for name in option_names(ReportSettings) if name in looks}
    values |= {name: value for name, value in own.items() if name not in values}
    looks = {name: value for name, value in looks.items() if name not in own}
    for name in values:
        if name not in RUN_OPTIONS:
            near = nearest_names(name, (*RUN_OPTIONS, _REPORT, _ENCODERS))
            raise MambabenchError(f"{where}no setting {name!r}{near}")
    extract, probe, report = (
        settings_of(
            stage, {n: values[n] for n in option_names(stage) if n in values}, where, ProtocolError
        )
        for stage in _STAGES
    )
    return Experiment(
        cast(ExtractSettings, extract),
        cast(ProbeSettings, probe),
        cast(ReportSettings, report),
        settings_of(TableSettings, looks, f"{where}[{_REPORT}]: "),
    )


def _with_named_encoders(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the values with the table [encoders] (name = "encoder") as encoders "NAME=E"."""
    named = values.pop(_ENCODERS, None)
    if named is None:
        return values
    if values.get("encoder"):
        raise MambabenchError(f"{where}encoder and [{_ENCODERS}]: name all encoders in one of them")
    if not isinstance(named, Mapping) or not all(isinstance(e, str) for e in named.values()):
        raise MambabenchError(
            f'{where}[{_ENCODERS}] is {named!r}, but must hold names and encoders: Mine = "my.py"'
        )
    return {**values, "encoder": [f"{name}={encoder}" for name, encoder in named.items()]}


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
    from mambabench.extract.verb import extract_with
    from mambabench.probe.verb import probe_with
    from mambabench.report.verb import check_format, report

    _check_protocol(experiment.probe)
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
    from mambabench.extract.verb import extract_with
    from mambabench.probe.verb import probe_planned

    watch.stage("1/2 extract")
    extracted = extract_with(experiment.extract)
    watch.stage("2/2 probe")
    probes = probe_planned(experiment.probe, extracted.planned)
    return PipelineRun(extracted, None, None, {}, estimates=(*extracted.estimates, *probes))


def problems(experiment: Experiment) -> tuple[str, ...]:
    """Return what would stop a run before its first clip, without loading an encoder."""
    checks: list[Callable[[], object]] = [lambda: _check_protocol(experiment.probe)]
    checks += [lambda name=name: _check_encoder(name) for name in experiment.extract.encoder]  # type: ignore[misc]
    checks.append(lambda: _check_tasks(experiment.extract))
    names = experiment.table.names
    if names is not None:
        checks.append(lambda: read_names(names))
    found = []
    for check in checks:
        try:
            check()
        except MambabenchError as error:
            found.append(str(error))
    return tuple(found)


def _check_tasks(settings: ExtractSettings) -> None:
    if settings.tasks:
        discover(settings.tasks, settings.task)


def _check_encoder(text: str) -> None:
    """Refuse a name that is none, and files that are not there."""
    for one in encoder_list([text]):
        name, _, checkpoint = split_name(one)
        is_file = "/" in name or name.endswith(".py")
        if is_file and not Path(name).exists():
            raise EncoderError(f"encoder {one!r}: there is no file {name}")
        if not is_file and "." not in name and name not in BRIDGES:
            find_entry(name)
        if checkpoint is not None and name not in BRIDGES and not checkpoint.exists():
            raise EncoderError(f"encoder {one!r}: there is no checkpoint {checkpoint}")


def _check_protocol(probe: ProbeSettings) -> None:
    """Refuse a wrong protocol before the encoder has run for hours."""
    from mambabench.probe.protocols import DEFAULT_PROTOCOL, resolve_protocol

    grid = "default" if probe.protocol is None else probe.grid
    resolve_protocol(probe.protocol or DEFAULT_PROTOCOL, grid, probe.exact, probe.lm)
