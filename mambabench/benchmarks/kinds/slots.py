"""Slots: a value for each of several questions."""

from __future__ import annotations

from mambabench.benchmarks.kinds.kind import Kind

__all__ = ["KIND"]

KIND = Kind("slots", "a label slot=value for every slot", own_metrics=True)
