"""`knn`: nearest training clips vote."""

from __future__ import annotations

from mambabench.probe.protocols import Protocol, of_classes

__all__ = ["PROTOCOL"]

PROTOCOL = Protocol(
    "knn",
    of_classes("knn", events=False),
    unfit={
        "events": "neighbours vote on clips, a timestamp task asks for events; use linear, sound "
        "or a kit protocol"
    },
    seeded=False,
)
