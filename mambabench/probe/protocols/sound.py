"""`sound`: three heads, standardised rows, and a choice that sees no test label."""

from __future__ import annotations

from dataclasses import replace

from mambabench.probe.protocols import GridSettings, HeadConfig, Protocol, of_classes

__all__ = ["PROTOCOL"]

# A linear head, a cautious one for small sets and an eager one; simplest first, since the earliest
# of equal points wins.
_FIRST = HeadConfig(hidden_dim=256, lr=3e-3, max_epochs=200, check_every=1, patience=15)
_POINTS = (
    replace(_FIRST, hidden_layers=0, dropout=0.0, weight_decay=1.0),
    replace(_FIRST, dropout=0.75, lr=1e-3, weight_decay=0.1),
    replace(_FIRST, dropout=0.25, weight_decay=0.1),
)
PROTOCOL = Protocol(
    "sound",
    of_classes("mlp"),
    GridSettings(standardise=True, points=_POINTS, adapt_batch=True, selected_on=200),
    version=2,
)
