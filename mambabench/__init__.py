"""Measure how good an audio encoder is: extract embeddings once, probe all heads, report honestly.

Importing this package is cheap: torch, scipy and pandas are loaded by the first call that needs
them. The verbs of the pipeline are functions of the same name and options here; docs/commands.md
says where the others are.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mambabench.errors import (
    DataError,
    EncoderError,
    MambabenchError,
    ProtocolError,
    StoreError,
)

if TYPE_CHECKING:
    import mambabench.benchmarks.tasks as tasks
    from mambabench import extract, probe, report, train
    from mambabench.extract.embed import embed
    from mambabench.hear_api.check import check
    from mambabench.in_memory import evaluate_encoder
    from mambabench.models.registry import load_encoder
    from mambabench.pipeline import run
    from mambabench.provenance import info
    from mambabench.report.bundle import bundle
    from mambabench.report.clips import load_clips
    from mambabench.report.results import load_results
    from mambabench.train.evaluate import evaluate
    from mambabench.verification.forget import forget
    from mambabench.verification.verb import verify

__version__ = "0.1.0"

__all__ = [
    "DataError",
    "EncoderError",
    "MambabenchError",
    "ProtocolError",
    "StoreError",
    "__version__",
    "bundle",
    "check",
    "embed",
    "evaluate",
    "evaluate_encoder",
    "extract",
    "forget",
    "info",
    "load_clips",
    "load_encoder",
    "load_results",
    "probe",
    "report",
    "run",
    "tasks",
    "train",
    "verify",
]

_LAZY = {
    "bundle": "mambabench.report.bundle:bundle",
    "check": "mambabench.hear_api.check:check",
    "embed": "mambabench.extract.embed:embed",
    "evaluate": "mambabench.train.evaluate:evaluate",
    "evaluate_encoder": "mambabench.in_memory:evaluate_encoder",
    "extract": "mambabench.extract",
    "forget": "mambabench.verification.forget:forget",
    "info": "mambabench.provenance:info",
    "load_clips": "mambabench.report.clips:load_clips",
    "load_encoder": "mambabench.models.registry:load_encoder",
    "load_results": "mambabench.report.results:load_results",
    "probe": "mambabench.probe",
    "report": "mambabench.report",
    "run": "mambabench.pipeline:run",
    "tasks": "mambabench.benchmarks.tasks",
    "train": "mambabench.train",
    "verify": "mambabench.verification.verb:verify",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'mambabench' has no attribute {name!r}")
    module, _, attribute = _LAZY[name].partition(":")
    value = import_module(module)
    return getattr(value, attribute) if attribute else value


def __dir__() -> list[str]:
    return sorted(__all__)
