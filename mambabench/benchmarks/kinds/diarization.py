"""Who speaks when."""

from __future__ import annotations

from mambabench.benchmarks.kinds.kind import LENGTHS, Kind

__all__ = ["KIND"]

KIND = Kind(
    "diarization",
    "events whose labels are speakers, two a clip",
    own_metrics=True,
    timestamps=True,
    relations=(LENGTHS,),
)
