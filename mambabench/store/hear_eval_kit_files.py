"""The files of hear-eval-kit's embeddings directory: their names, the order of rows, the sidecar.

Source: hear-eval-kit 2021.1.3, embeddings phase.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.errors import StoreError
from mambabench.reading.fields import check_fields
from mambabench.reading.json_files import parse_json
from mambabench.reading.text import decode_text
from mambabench.selfhash import HashMismatchError, parse_hashed

if TYPE_CHECKING:
    from mambabench.benchmarks.task import Task

__all__ = [
    "DONE",
    "PREFIX",
    "PROFILE",
    "SCHEMA",
    "SIDECAR",
    "labels_at",
    "read_sidecar",
    "shuffled_order",
]

DONE = ".done.embeddings"
SIDECAR = ".mambabench.json"  # what the kit has no place for: encoder, layers, missing clips
PROFILE = "profile.embeddings.json"
PREFIX = ".mambabench-"  # of our own other files
SCHEMA = "mambabench.hear-eval-kit/2"
_WITHOUT_HASHES = "mambabench.hear-eval-kit/1"
END_TOLERANCE_MS = 1e-4  # an event still sounds at its own end


def shuffled_order(task: Task) -> dict[str, list[int]]:
    """Return, per split, the indices of its clips in the order of hear-eval-kit's rows.

    One ``random.Random(0)`` per task shuffles the splits in the order of the metadata.
    """
    stream = random.Random(0)
    orders = {}
    for split in task.splits:
        order = list(range(len(task.clips[split])))
        stream.shuffle(order)
        orders[split] = order
    return orders


def labels_at(events: Sequence[dict[str, Any]], times_ms: Sequence[float]) -> list[list[Any]]:
    """Return the labels of the events that sound at each time, both ends included."""
    return [
        sorted(
            (e["label"] for e in events if e["start"] <= t < e["end"] + END_TOLERANCE_MS), key=str
        )
        for t in times_ms
    ]


@dataclass(frozen=True)
class _SidecarHead:
    """What is read of what stands beside the kit's files."""

    encoder: str
    encoder_identity: str
    layers: tuple[int, ...] | None
    missing: dict[str, str]


@dataclass(frozen=True)
class _SidecarFiles:
    """What is not there in older ones."""

    files: dict[str, str]


def read_sidecar(directory: Path) -> dict[str, Any] | None:
    """Return what stands beside the kit's files, None where the kit itself made the directory.

    Raises StoreError where it cannot be read or has not the hash that it states.
    """
    path = directory / SIDECAR
    try:
        data = path.read_bytes()
        value = parse_json(decode_text(data))
        if isinstance(value, dict) and value.get("schema") != _WITHOUT_HASHES:
            parse_hashed(data)
        if isinstance(value, dict):
            head = {field.name: value[field.name] for field in fields(_SidecarHead)}
            check_fields(_SidecarHead, head)
            check_fields(_SidecarFiles, value)
    except FileNotFoundError:
        return None
    except HashMismatchError as error:
        raise StoreError(
            f"{path} was edited or damaged: {error}; remove {DONE}, embed again"
        ) from error
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise StoreError(f"{path} cannot be read ({error}); remove {DONE}, embed again") from error
    if not isinstance(value, dict):
        raise StoreError(f"{path} holds no object; remove {DONE}, embed again")
    return value
