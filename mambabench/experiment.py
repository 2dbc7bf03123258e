"""All that a run of three stages is told: its settings, as a file or a command line gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from mambabench.errors import MambabenchError, ProtocolError, nearest_names
from mambabench.extract.settings import ExtractSettings
from mambabench.probe.settings import ProbeSettings
from mambabench.reading.toml_files import read_toml
from mambabench.report.settings import ReportSettings, TableSettings
from mambabench.settings import as_plain, option_names, options_of, settings_of

__all__ = [
    "RUN_OPTIONS",
    "Experiment",
    "experiment_of",
    "is_default",
    "read_experiment",
]


_STAGES = (ExtractSettings, ProbeSettings, ReportSettings)
_NOT_OF_RUN = ("shard", "verify")  # a run is whole, and `verify` a verb
# name -> a class that declares it: the options of ``mambabench run`` and of configuration files
RUN_OPTIONS: dict[str, type] = {
    name: stage for stage in _STAGES for name in option_names(stage) if name not in _NOT_OF_RUN
}


_REPORT, _ENCODERS = "report", "encoders"  # tables of a configuration file


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


def is_default(name: str, value: Any) -> bool:
    """Say whether a value is what an option has where it is not given."""
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
