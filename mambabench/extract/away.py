"""The unit of extraction for workers that see the audio, but not the output folder.

A worker encodes into a folder of its own and hands the files back; who asked commits them.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.engine.scratch import scratch_folder
from mambabench.errors import DataError, EncoderError, StoreError
from mambabench.extract.unit import encode_unit
from mambabench.files import write_bytes
from mambabench.models.naming import called
from mambabench.models.registry import split_name
from mambabench.store.plan import Shard
from mambabench.store.shards import is_open, plan_path, rows_path

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["absolute", "commit_files", "encode_away", "files_of_encoder"]

MOST_BYTES = 5 << 20  # of Python files that travel with an encoder


def files_of_encoder(encoder: str) -> dict[str, str]:
    """Return name -> text of the Python files beside an encoder that is a file, {} for others."""
    path = Path(split_name(encoder)[0])
    if path.suffix != ".py" or not path.is_file():
        return {}
    found, n_bytes = {}, 0
    for file in [path, *sorted(path.parent.glob("*.py"))]:
        n_bytes += file.stat().st_size
        if n_bytes > MOST_BYTES and file != path:
            break
        with suppress(UnicodeDecodeError):
            found[file.name] = file.read_text(encoding="utf-8")
    return found


def absolute(encoder: str) -> str:
    """Return an encoder's spec with the paths in it made absolute: workers stand elsewhere."""
    given, spec = called(encoder)
    if Path(spec).is_file():
        spec = str(Path(spec).absolute())
    else:
        kind, at, checkpoint = spec.partition("@")
        name, colon, options = kind.partition(":")
        if Path(name).is_file():
            name = str(Path(name).absolute())
        if at and Path(checkpoint).expanduser().exists():
            checkpoint = str(Path(checkpoint).expanduser().absolute())
        spec = name + colon + options + at + checkpoint
    return spec if given is None else f"{given}={spec}"


def encode_away(unit: dict[str, Any], report: Callable[[Any], None]) -> dict[str, Any]:
    """Encode one shard as `encode_unit`; return its cost, its record's and its rows' bytes."""
    import numpy as np

    node = socket.gethostname()
    _check_audio(unit, node)
    with scratch_folder("extract") as scratch:
        store = scratch / "task"  # what lies beside a store is looked at: nothing here
        write_bytes(plan_path(store), b"{}\n")  # a store that is open
        spec = {**unit["spec"], "encoder": _encoder_here(unit, node)}
        try:
            cost = encode_unit({**unit, "spec": spec, "store": str(store), "retry": False}, report)
        except (EncoderError, StoreError) as error:
            told = type(error)(f"node {node}: {error}")
            told.traceback = error.traceback
            raise told from error
        if unit.get("only"):
            return cost
        path = rows_path(store, unit["shard"]["split"], unit["shard"]["key"])
        rows = np.fromfile(path, np.uint8)
        return {**cost, "record": path.with_suffix(".json").read_bytes(), "rows": rows}


def _check_audio(unit: dict[str, Any], node: str) -> None:
    """Refuse a node that lacks audio which the machine that planned has seen."""
    for clip in unit["shard"]["clips"]:
        if clip["seen"] is not None and not Path(clip["path"]).is_file():
            raise DataError(
                f"node {node}: {clip['path']} is not there, but on the machine that gave the "
                "command: mount the folder of the tasks under the same path on every node"
            )


_unpacked: dict[str, tempfile.TemporaryDirectory[str]] = {}


def _encoder_here(unit: dict[str, Any], node: str) -> str:
    """Return the encoder as this node calls it: a file that is not here is unpacked first."""
    encoder: str = unit["spec"]["encoder"]
    bare = split_name(encoder)[0]
    if not bare.endswith(".py") or Path(bare).is_file():
        return encoder
    files = unit.get("files") or {}
    if Path(bare).name not in files:
        raise EncoderError(f"node {node}: encoder file {bare} is not there and did not travel")
    if encoder not in _unpacked:
        folder = tempfile.TemporaryDirectory(prefix="mambabench-encoder-")
        for name, text in files.items():
            (Path(folder.name) / name).write_text(text, encoding="utf-8")
        _unpacked[encoder] = folder
    given, rest = called(encoder)
    here = rest.replace(bare, str(Path(_unpacked[encoder].name) / Path(bare).name), 1)
    return here if given is None else f"{given}={here}"


def commit_files(store: Path, shard: Shard, record: bytes, rows: npt.NDArray[np.uint8]) -> None:
    """Write what a worker handed back: rows, then their record; StoreError as `commit_shard`."""
    path = rows_path(store, shard.split, shard.key)
    if not is_open(store):
        return  # sealed by another process
    try:
        write_bytes(path, memoryview(rows))  # type: ignore[arg-type]
        write_bytes(path.with_suffix(".json"), record)
    except OSError as error:
        if is_open(store):
            raise StoreError(
                f"cannot write {path.parent}: {error.strerror or error}; free some space or fix "
                "the folder and give the same command again: what is committed stays"
            ) from error
