"""The one error tree: what went wrong, where, and how to fix it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "DataError",
    "EncoderError",
    "MambabenchError",
    "ProtocolError",
    "StoreError",
    "nearest_names",
]


class MambabenchError(Exception):
    """Base of every error that mambabench raises on purpose; its text is meant for the user.

    Notes (`add_note`) are the last lines of a provider's traceback; `traceback` is all of it.
    """

    traceback: str = ""


class DataError(MambabenchError):
    """A task directory, a clip or a label is missing, unreadable or inconsistent."""


class EncoderError(MambabenchError):
    """An encoder, a provider or a checkpoint is unknown, incomplete or misbehaves."""


class ProtocolError(MambabenchError):
    """A probe protocol cannot be applied as asked."""


class StoreError(MambabenchError):
    """An embedding store or a run record is incomplete, corrupt or of another encoder."""


def nearest_names(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x' or 'y'?"`` for the known names nearest to `name`, or ``""``.

    Used at the end of every "unknown ..." message.
    """
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    ratios = [difflib.SequenceMatcher(None, n, name).ratio() for n in near]
    near = [n for n, ratio in zip(near, ratios, strict=True) if ratio > ratios[0] - 0.25]
    return "; did you mean " + " or ".join(repr(n) for n in near) + "?" if near else ""
