"""What would stop a run before its first clip: names, files and protocols that are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mambabench.benchmarks import discover
from mambabench.errors import EncoderError, MambabenchError
from mambabench.experiment import Experiment
from mambabench.extract.settings import ExtractSettings
from mambabench.models.entry import BRIDGES
from mambabench.models.registry import encoder_list, find_entry, split_name
from mambabench.probe.protocols import DEFAULT_PROTOCOL, resolve_protocol
from mambabench.probe.settings import ProbeSettings
from mambabench.report.names import read_names

__all__ = ["check_protocol", "problems"]


def problems(experiment: Experiment) -> tuple[str, ...]:
    """Return what would stop a run before its first clip, without loading an encoder."""
    checks: list[Callable[[], object]] = [lambda: check_protocol(experiment.probe)]
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


def check_protocol(probe: ProbeSettings) -> None:
    """Refuse a wrong protocol before the encoder has run for hours."""
    grid = "default" if probe.protocol is None else probe.grid
    resolve_protocol(probe.protocol or DEFAULT_PROTOCOL, grid, probe.exact, probe.lm)
