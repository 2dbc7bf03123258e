"""Import, convert, re-export and recognise checkpoints.

A converted file is safetensors under the authors' bare keys; its metadata hold the encoder's name
and configuration, how the original was wrapped, the order of its keys, and a hash of the content
that is checked at every reading.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mambabench.errors import EncoderError
from mambabench.files import atomic_write, sha256_file
from mambabench.models.entry import EncoderEntry
from mambabench.models.registry import encoder_entries, find_entry
from mambabench.models.weights.checkpoint import describe_mismatch, read_checkpoint
from mambabench.models.weights.identity import weights_hash
from mambabench.models.weights.kinds import FORMAT, Checkpoint, WeightsFile
from mambabench.models.weights.locate import checkpoint_file, local_checkpoint, weights_directory
from mambabench.models.weights.recognise import _shapes, recognise
from mambabench.models.weights.torch_files import save_torch

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = [
    "convert_checkpoint",
    "describe_weights",
    "export_checkpoint",
    "import_checkpoint",
    "list_weights",
]


def _named(name: str | None, state: Mapping[str, torch.Tensor], origin: Path) -> EncoderEntry:
    """Return the entry that a state dict belongs to; EncoderError lists what does not fit."""
    found = {key: tuple(value.shape) for key, value in state.items()}
    if name is not None:
        entry = find_entry(name)
        if not entry.published:
            raise EncoderError(f"encoder {entry.name} has no published weights to convert")
    else:
        names = recognise(found)
        if not names:
            raise EncoderError(
                f"{origin} fits no known encoder; `mambabench models list` shows all"
            )
        if len(names) > 1:
            raise EncoderError(
                f"{origin} fits {', '.join(names)}, whose layouts are equal: say which it is"
            )
        entry = find_entry(names[0])
    problem = describe_mismatch(_shapes(entry.name), found)
    if problem:
        others = [other for other in recognise(found) if other != entry.name]
        guess = f"\nthe file seems to be of {' or '.join(others)}" if others else ""
        raise EncoderError(f"{origin} does not fit encoder {entry.name}:\n{problem}{guess}")
    return entry


def convert_checkpoint(path: Path, out: Path, name: str | None = None) -> WeightsFile:
    """Convert a checkpoint in the authors' form to safetensors at `out`, and describe it.

    `name` is needed where several encoders share a layout. Nothing is changed in the tensors.
    Raises EncoderError where the file does not fit, listing all keys that are wrong.
    """
    file = checkpoint_file(path)
    checkpoint = read_checkpoint(file)
    return _convert(file, checkpoint, _named(name, checkpoint.state, file), out)


def _convert(file: Path, checkpoint: Checkpoint, entry: EncoderEntry, out: Path) -> WeightsFile:
    from safetensors.torch import save

    state = {key: value.contiguous() for key, value in checkpoint.state.items()}
    metadata = {
        "mambabench": FORMAT,
        "encoder": entry.name,
        "configuration": json.dumps(dict(entry.settings), sort_keys=True),
        "content_sha256": weights_hash(state),
        "keys": json.dumps(list(state)),
        "wrapper": checkpoint.wrapper,
        "prefix": checkpoint.prefix,
        "source_file": file.name,
        "source_sha256": sha256_file(file),
    }
    data = save(state, metadata=metadata)

    def write(target: BinaryIO) -> None:
        target.write(data)

    atomic_write(out, write)
    return _described(out, checkpoint, (entry.name,), metadata["content_sha256"], converted=True)


def import_checkpoint(
    path: Path, name: str | None = None, directory: Path | None = None
) -> WeightsFile:
    """Convert a checkpoint into the folder where encoders look for their weights."""
    file = checkpoint_file(path)
    checkpoint = read_checkpoint(file)
    entry = _named(name, checkpoint.state, file)
    out = (directory or weights_directory()) / f"{entry.name}.safetensors"
    return _convert(file, checkpoint, entry, out)


def export_checkpoint(path: Path, out: Path) -> WeightsFile:
    """Write a converted file back in the authors' form: their wrapper, prefix and key order.

    What a file held beside the tensors (optimiser, settings) is not kept by a conversion.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint.metadata.get("mambabench") != FORMAT:
        raise EncoderError(f"{path} is no converted file: there is nothing to export")
    prefixed = {checkpoint.prefix + key: value for key, value in checkpoint.state.items()}
    content: object = {checkpoint.wrapper: prefixed} if checkpoint.wrapper else prefixed

    def write(target: BinaryIO) -> None:
        save_torch(content, target)

    atomic_write(out, write)
    names, content_hash = (checkpoint.metadata["encoder"],), checkpoint.metadata["content_sha256"]
    return _described(out, checkpoint, names, content_hash, converted=False)


def describe_weights(path: Path) -> WeightsFile:
    """Read a checkpoint in either form and say what it is; EncoderError if it cannot be read."""
    file = checkpoint_file(path)
    checkpoint = read_checkpoint(file)
    if checkpoint.metadata.get("mambabench") == FORMAT:  # its hash was checked by reading it
        known, found = (checkpoint.metadata["encoder"],), checkpoint.metadata["content_sha256"]
        return _described(file, checkpoint, known, found, converted=True)
    shapes = {key: tuple(value.shape) for key, value in checkpoint.state.items()}
    found = weights_hash(checkpoint.state)
    return _described(file, checkpoint, recognise(shapes), found, converted=False)


def _described(
    path: Path, checkpoint: Checkpoint, names: tuple[str, ...], content_hash: str, converted: bool
) -> WeightsFile:
    return WeightsFile(
        path=path,
        encoders=names,
        content_sha256=content_hash,
        n_tensors=len(checkpoint.state),
        n_parameters=sum(value.numel() for value in checkpoint.state.values()),
        wrapper=checkpoint.wrapper,
        prefix=checkpoint.prefix,
        converted=converted,
    )


def list_weights() -> tuple[tuple[EncoderEntry, Path | None], ...]:
    """Return every published encoder with its checkpoint on this machine, or None."""
    entries = encoder_entries().values()
    return tuple(
        (entry, local_checkpoint(entry))
        for entry in entries
        if entry.published and not entry.package
    )
