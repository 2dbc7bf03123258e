"""Tell whose weights a state dict is, and check a converted file."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib import import_module
from pathlib import Path

import torch

from mambabench.errors import EncoderError
from mambabench.models.entry import EncoderEntry
from mambabench.models.registry import encoder_entries, find_entry
from mambabench.models.weights.identity import weights_hash
from mambabench.models.weights.kinds import FORMAT, Checkpoint, Shapes

__all__ = ["check_converted", "expected_shapes", "recognise"]


@lru_cache(maxsize=64)
def _shapes(name: str) -> dict[str, tuple[int, ...]]:
    entry = find_entry(name)
    if not entry.builder:
        return {}
    module, _, function = entry.builder.partition(":")
    with torch.device("meta"):
        model: torch.nn.Module = getattr(import_module(module), function)(entry)
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def expected_shapes(entry: EncoderEntry) -> dict[str, tuple[int, ...]]:
    """Return key -> shape of an encoder's published state dict, in the file's order."""
    return dict(_shapes(entry.name))


def recognise(shapes: Shapes) -> tuple[str, ...]:
    """Return the published encoders whose keys and shapes come nearest to those given.

    Several where their layouts are equal; none where less than half of the keys fit.
    """
    best, names = 0.5, []
    for entry in encoder_entries().values():
        if not (entry.published and entry.builder):
            continue
        expected = _shapes(entry.name)
        right = sum(shapes.get(key) == shape for key, shape in expected.items())
        score = right / max(len(expected), len(shapes))
        if score > best:
            best, names = score, [entry.name]
        elif score == best and names:
            names.append(entry.name)
    return tuple(names)


def check_converted(
    file: Path,
    state: dict[str, torch.Tensor],
    metadata: dict[str, str],
    entry: EncoderEntry | None,
) -> Checkpoint:
    """Return a converted file's tensors in the original's order, its hash and encoder checked."""
    if metadata["mambabench"] != FORMAT:
        raise EncoderError(
            f"{file} has format {metadata['mambabench']}, this version reads {FORMAT}: convert the "
            "original again"
        )
    if weights_hash(state) != metadata["content_sha256"]:
        raise EncoderError(
            f"{file} is damaged: its content hash differs; convert the original again"
        )
    if entry is not None and metadata["encoder"] != entry.name:
        raise EncoderError(
            f"{file} holds the weights of {metadata['encoder']}, not of {entry.name}"
        )
    ordered = {key: state[key] for key in json.loads(metadata["keys"])}
    return Checkpoint(ordered, metadata["wrapper"], metadata["prefix"], (), metadata)
