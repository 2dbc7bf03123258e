"""`linear`: logistic regression on standardised rows, solved to its optimum."""

from __future__ import annotations

from mambabench.probe.protocols import Protocol, RowSettings, of_classes

__all__ = ["PROTOCOL"]

PROTOCOL = Protocol(
    "linear", of_classes("linear"), RowSettings(standardise=True), seeded=False, version=2
)
