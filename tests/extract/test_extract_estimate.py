"""What a dry run encodes: batches of all shards, other ones in each worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mambabench.extract.estimate as module
from mambabench.extract.away import files_of_encoder
from mambabench.extract.estimate import pieces_of
from mambabench.extract.outcome import Extracted
from mambabench.probe.done import ProbeRun
from mambabench.store.estimate import Estimate
from mambabench.store.plan import PlannedClip, Shard


def _shard(split: str, n_batches: int) -> Shard:
    clips = tuple(PlannedClip(i, f"{i}.wav", "", 16000, 32044) for i in range(2 * n_batches))
    return Shard(f"{split}{n_batches}", split, clips, (2,) * n_batches, 16000)


def _names(shards: list[Shard]) -> list[str]:
    return [f"{shard.split}/{clip.name}" for shard in shards for clip in shard.clips]


def test_workers_share_the_batches_of_all_shards() -> None:
    shards = [_shard("train", 50), _shard("valid", 7)]
    workers = pieces_of(shards, 2)
    assert sorted(_names(workers[0]) + _names(workers[1])) == sorted(_names(shards))
    pieces = [piece for worker in workers for piece in worker]
    assert len({piece.key for piece in pieces}) == len(pieces)
    assert [len(piece.batch_sizes) for piece in workers[0][:2]] == [1, 1]
    assert max(len(piece.batch_sizes) for piece in pieces) == 8
    assert all(sum(piece.batch_sizes) == len(piece.clips) for piece in pieces)


def test_a_single_batch_is_encoded_twice_by_everyone() -> None:
    shard = _shard("train", 1)
    for worker in pieces_of([shard], 3):
        assert [piece.clips for piece in worker] == [shard.clips, shard.clips]


def test_a_notebook_shows_what_a_dry_run_estimates(tmp_path: Path) -> None:
    rows = (Estimate("probe", "enc", "a task", 3, 12.4, 2 * 10**9, 10**9, "as said"),)
    shown = (
        ProbeRun(tmp_path, 0, 0, (), (), rows)._repr_html_(),
        Extracted(tmp_path, (), 0.0, 0.0, rows)._repr_html_(),
    )
    for text in shown:
        assert "nothing was stored" in text
        assert all(word in text for word in ("enc", "a task", "12", "as said"))


def test_files_beside_an_encoder_travel_with_it(tmp_path: Path) -> None:
    assert files_of_encoder("logmel_stats") == {}
    for name in ("own", "beside"):
        (tmp_path / f"{name}.py").write_text(f"# {name}\n")
    (tmp_path / "other.txt").write_text("no Python")
    found = files_of_encoder(f"{tmp_path / 'own.py'}@weights")
    assert found == {"own.py": "# own\n", "beside.py": "# beside\n"}


def test_a_worker_times_what_follows_its_first_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """5 s for the first 2 s of audio, then twice real time until there are 3 s of it."""
    costs = iter([(5.0, 2.0), (1.0, 2.0), (2.5, 5.0), (9.0, 1.0)])

    def encoded(piece: dict[str, Any]) -> tuple[float, float]:
        return next(costs)

    monkeypatch.setattr(module, "_encoded", encoded)
    assert module._measured([{}] * 4) == pytest.approx((4.0, 0.5))
    assert next(costs) == (9.0, 1.0)  # enough was seen before
