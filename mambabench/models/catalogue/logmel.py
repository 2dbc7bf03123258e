"""Log-mel statistics: the baseline that needs no weights."""

from __future__ import annotations

from mambabench.models.entry import EncoderEntry

__all__ = ["ENTRIES"]

ENTRIES = (
    EncoderEntry(
        name="logmel_stats",
        family="logmel_stats",
        loader="mambabench.models.encoders.logmel:load",
        scene_embedding_size=240,
        timestamp_embedding_size=240,
        hop_ms=50.0,
        published=False,
        licence="Apache-2.0",
    ),
)
