"""The unit of work of extraction: encode one shard and commit it."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.benchmarks.task import AudioPart
from mambabench.errors import EncoderError
from mambabench.extract.encode import BatchLimit, EncodeJob, encode_shard
from mambabench.extract.reuse import known_rows
from mambabench.models.registry import load_encoder
from mambabench.store.plan import EncoderSpec, PlannedClip, Shard
from mambabench.store.shards import commit_shard, is_open, read_record

if TYPE_CHECKING:
    from mambabench.models.encoder import LoadedEncoder

__all__ = [
    "clip_of",
    "encode_unit",
    "forget",
    "load",
    "make_unit",
    "one_thread",
    "shard_of",
    "spec_of",
]

# the encoder used last, by what it was loaded as: units come ordered by encoder
_loaded: dict[tuple[str, str, str], tuple[LoadedEncoder, BatchLimit]] = {}


def load(name: str, device: str, precision: str) -> LoadedEncoder:
    """Load the encoder afresh, and keep it for the units that follow in this process."""

    _loaded.clear()
    dtype = None if precision == "fp32" else precision
    encoder = load_encoder(name, device=device, dtype=dtype)
    _loaded[(name, encoder.device, precision)] = encoder, BatchLimit()
    return encoder


def forget() -> None:
    """Let go of the encoder that was loaded last."""
    _loaded.clear()


def make_unit(
    store: Path, pooling: str, spec: EncoderSpec, shard: Shard, clip_s: float | None = None
) -> dict[str, Any]:
    """Return the JSON-able description of one shard's work; `encode_unit` does it."""
    return {
        "store": str(store),
        "pooling": pooling,
        "spec": asdict(spec),
        "shard": asdict(shard),
        "device": spec.device,
        "retry": False,
        "clip_s": clip_s,
    }


def encode_unit(unit: dict[str, Any], report: Callable[[Any], None]) -> dict[str, Any]:
    """Encode and commit one shard, unless another process has; return what it cost.

    `report` receives [clips, seconds of audio] after each batch. With ``unit["retry"]`` a committed
    shard in which clips failed is done again. Clips of ``unit["refused"]`` are left out for the
    reason that stands there. ``unit["only"]`` names the clips of a trial: they are encoded to see
    whether the encoder survives it, and nothing is written.
    """
    spec, shard = spec_of(unit["spec"]), shard_of(unit["shard"])
    store = Path(unit["store"])
    only = unit.get("only")
    record = None if only else read_record(store, shard.split, shard.key)
    committed = record is not None and not (record.failures and unit["retry"])
    if committed or not is_open(store):
        return {"seconds": 0.0, "audio_s": 0.0, "n_halvings": 0, "n_reused": 0}
    encoder, limit = _encoder(spec, unit["device"])
    before, start = limit.n_halvings, time.perf_counter()
    known, keep = None, spec.frames == "store"
    # stored crops of a file share its hash
    if keep and not only and not any(clip.part for clip in shard.clips):
        known = known_rows(store, unit["pooling"], spec)
    reused = 0 if known is None else known.n_reused
    job = EncodeJob(encoder, unit["pooling"], spec.layers, limit, unit.get("clip_s"), keep, known)
    with one_thread(encoder.device), ThreadPoolExecutor(_n_readers(encoder.device)) as readers:
        if only:
            tried = _part_of(shard, frozenset(only))
            with suppress(EncoderError):  # a fault that is told is no death
                deque(encode_shard(job, tried, readers, lambda clips, s: None), maxlen=0)
        else:
            refused = unit.get("refused")
            rows = encode_shard(job, shard, readers, lambda clips, s: report([clips, s]), refused)
            commit_shard(store, shard, rows)
    return {
        "seconds": time.perf_counter() - start,
        "audio_s": 0.0 if only else shard.duration_s,
        "n_halvings": limit.n_halvings - before,
        "n_reused": 0 if known is None else known.n_reused - reused,
    }


def _encoder(spec: EncoderSpec, device: str) -> tuple[LoadedEncoder, BatchLimit]:
    """Return the encoder that the plan means; EncoderError where it is another one here."""
    key = (spec.encoder, device, spec.precision)
    if key not in _loaded:
        load(*key)
    encoder, limit = _loaded[key]
    if encoder.identity != spec.identity:
        raise EncoderError(
            f"encoder {spec.encoder!r} is not the same in every process: identity "
            f"{encoder.identity[:8]} here, {spec.identity[:8]} in the plan; its weights changed "
            "while it ran, or it is initialised at random without a seed"
        )
    return encoder, limit


def _part_of(shard: Shard, names: frozenset[str]) -> Shard:
    """Return the shard with some of its clips, each batch with those of its own that are left."""
    batches = [tuple(c for c in batch if c.name in names) for batch in shard.batches()]
    clips = tuple(clip for batch in batches for clip in batch)
    return replace(shard, clips=clips, batch_sizes=tuple(len(b) for b in batches if b))


@contextmanager
def one_thread(device: str) -> Iterator[None]:
    """Let torch use one thread on a CPU: how many it uses changes the last bits of results."""
    import torch

    before = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _n_readers(device: str) -> int:
    """Return the threads that decode: on a CPU the encoder needs the core more."""
    return 1 if device == "cpu" else min(8, os.cpu_count() or 1)


def spec_of(value: dict[str, Any]) -> EncoderSpec:
    """Return an encoder's spec from its fields as JSON has them."""
    layers = value["layers"]
    return EncoderSpec(**{**value, "layers": None if layers is None else tuple(layers)})


def shard_of(value: dict[str, Any]) -> Shard:
    """Return the shard of a unit."""
    clips = tuple(clip_of(clip) for clip in value["clips"])
    return Shard(**{**value, "clips": clips, "batch_sizes": tuple(value["batch_sizes"])})


def clip_of(value: dict[str, Any]) -> PlannedClip:
    """Return a planned clip from its fields as JSON has them."""
    part, seen = value["part"], value["seen"]
    return PlannedClip(
        **{
            **value,
            "part": None if part is None else AudioPart(**part),
            "seen": None if seen is None else tuple(seen),
        }
    )
