"""The three verbs in one: extract, probe and report in one resumable output folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mambabench.errors import ProtocolError

if TYPE_CHECKING:
    from mambabench.extract.verb import Extracted, Progress
    from mambabench.probe.verb import ProbeProgress, ProbeRun
    from mambabench.report.verb import ReportResult

__all__ = ["PipelineRun", "run"]


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
    encoder: Sequence[str] = (),
    tasks: Sequence[Path | str] = (),
    task: Sequence[str] = (),
    out: Path | str = "mambabench-out",
    *,
    layers: str = "last",
    precision: str = "fp32",
    hop_ms: float | None = None,
    device: str = "auto",
    gpus: int | None = None,
    jobs: int | None = None,
    layout: str = "store",
    on_error: str = "stop",
    seeds: int = 10,
    protocol: str | None = None,
    grid: str = "default",
    exact: bool = False,
    format: str = "terminal",
    baseline: str | None = None,
    width: int = 120,
    color: bool = False,
    on_stage: Callable[[str], None] | None = None,
    on_extract: Callable[[Progress], None] | None = None,
    on_probe: Callable[[ProbeProgress], None] | None = None,
) -> PipelineRun:
    """Extract, probe and report; the options are the union of the three verbs'.

    Only what this call names is probed, whatever else `out` holds; the report shows all of `out`.
    An unfinished extraction stops the run before probing. The same call continues an interrupted
    one. Raises MambabenchError on bad input, before anything is computed where that can be known.
    """
    from mambabench.extract.verb import extract
    from mambabench.probe.verb import probe
    from mambabench.report.formats import FORMATS
    from mambabench.report.verb import report

    if format not in FORMATS:
        raise ProtocolError(f"format {format!r} is not one of {', '.join(FORMATS)}")
    _check_protocol(protocol, grid, exact)
    seconds = {}
    begin = on_stage or (lambda stage: None)
    begin("1/3 extract")
    start = time.perf_counter()
    extracted = extract(
        encoder,
        tasks,
        task,
        out,
        layers=layers,
        precision=precision,
        hop_ms=hop_ms,
        device=device,
        gpus=gpus,
        jobs=jobs,
        layout=layout,
        on_error=on_error,
        progress=on_extract,
    )
    seconds["extract"] = time.perf_counter() - start
    if extracted.failed:
        return PipelineRun(extracted, None, None, seconds)
    begin("2/3 probe")
    start = time.perf_counter()
    probed = probe(
        seeds,
        protocol,
        grid,
        exact,
        jobs=jobs,
        device=device,
        out=out,
        task=tuple(dict.fromkeys(outcome.task for outcome in extracted.outcomes)),
        encoder=tuple(dict.fromkeys(outcome.encoder for outcome in extracted.outcomes)),
        layout=layout,
        progress=on_probe,
    )
    seconds["probe"] = time.perf_counter() - start
    begin("3/3 report")
    start = time.perf_counter()
    reported = report((out,), format, baseline, width=width, color=color)
    seconds["report"] = time.perf_counter() - start
    return PipelineRun(extracted, probed, reported, seconds)


def _check_protocol(protocol: str | None, grid: str, exact: bool) -> None:
    """Refuse a wrong protocol before the encoder has run for hours."""
    from mambabench.probe.protocols import DEFAULT_PROTOCOL, resolve_protocol

    resolve_protocol(protocol or DEFAULT_PROTOCOL, "default" if protocol is None else grid, exact)
