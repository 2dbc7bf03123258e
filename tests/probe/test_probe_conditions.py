"""A record says under which conditions its embeddings were made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mambabench.probe.verb import probe
from mambabench.store.records import read_record, record_paths


def test_precision_and_rates_of_the_store_reach_the_record(
    shelf: Any, scene: Any, tmp_path: Path
) -> None:
    stored = shelf.add(*scene())
    made = replace(stored, precision="bf16", sample_rate_hz=48000, resampled_from_hz=16000)
    shelf.stored[shelf.stored.index(stored)] = made
    probe(1, "knn", out=tmp_path)
    (path,) = record_paths(tmp_path)
    record = read_record(path)
    assert (record.precision, record.sample_rate_hz) == ("bf16", 48000)
    assert record.resampled_from_hz == 16000
