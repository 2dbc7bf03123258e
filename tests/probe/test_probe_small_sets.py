"""Small sets under a kit protocol: what the record holds, and what is said beside the unit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mambabench.cli.progress import Display
from mambabench.probe.trainer import batch_edges
from mambabench.probe.verb import probe
from mambabench.store.records import RunRecord, read_record, record_paths
from mambabench.store.small_sets import hardly_trained


def _records(out: Path) -> list[RunRecord]:
    return [read_record(path) for path in record_paths(out)]


def test_records_hold_rows_batch_and_steps(shelf: Any, scene: Any, tmp_path: Path) -> None:
    shelf.add(*scene(n=1040, dim=4, spread=0.2))
    for protocol, batch, steps in (("ssam2024", 1024, 2), ("sound", 64, 17), ("linear", None, 0)):
        probe(1, protocol, out=tmp_path / protocol, jobs=1)
        (record,) = _records(tmp_path / protocol)
        for fold in record.folds:
            assert fold.n_train == 1040
            assert fold.batch_size == batch
            assert fold.n_steps == (steps * fold.n_epochs if fold.n_epochs else None)


def test_one_step_an_epoch_is_said_and_what_else_to_take(
    shelf: Any, scene: Any, tmp_path: Path
) -> None:
    shelf.add(*scene(n=90, spread=0.5))
    probe(2, "ssam2024", out=tmp_path)
    record, _ = _records(tmp_path)
    (fold,) = record.folds
    assert fold.n_steps == fold.n_epochs
    said = hardly_trained(record)
    assert said is not None
    assert "90 training rows are one batch of ssam2024" in said
    assert f"had {fold.n_steps} steps at learning rate 0.0001" in said
    assert "--protocol sound" in said
    assert hardly_trained(replace(record, protocol="ssam2024+exact")) == said
    by_sound = hardly_trained(replace(record, protocol="sound"))
    assert by_sound is not None
    assert "--protocol sound" not in by_sound, "what was used already is no remedy"
    assert by_sound.endswith(". --protocol linear solves to the optimum")


@pytest.mark.parametrize("protocol", ["sound", "linear", "knn"])
def test_protocols_that_train_small_sets_are_not_warned_of(
    shelf: Any, scene: Any, tmp_path: Path, protocol: str
) -> None:
    shelf.add(*scene(n=40))
    probe(1, protocol, out=tmp_path)
    (record,) = _records(tmp_path)
    assert hardly_trained(record) is None
    assert hardly_trained(replace(record, protocol="of-another-version")) is None


def test_two_batches_and_records_without_numbers_say_nothing(
    shelf: Any, scene: Any, tmp_path: Path
) -> None:
    shelf.add(*scene(n=30))
    probe(1, "ssam2024", out=tmp_path)
    (record,) = _records(tmp_path)
    (fold,) = record.folds
    for changes, said in (
        ({"n_train": 1024}, True),
        ({"n_train": 1025}, False),
        ({"n_train": None}, False),
        ({"n_steps": None}, False),
    ):
        changed = replace(record, folds=(replace(fold, **changes),))
        assert (hardly_trained(changed) is not None) is said, changes


def test_the_terminal_shows_the_warning_once_for_all_seeds(
    shelf: Any, scene: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf.add(*scene("one-v1-full", n=30))
    shelf.add(*scene("two-v1-full", n=30))
    probe(3, "ssam2024", out=tmp_path, progress=Display().probe)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(lines) == 2
    assert lines[0].startswith("warning: toy one-v1-full ssam2024: one optimiser step an epoch")
    assert all("--protocol sound" in line for line in lines)


@pytest.mark.parametrize(
    ("n", "edges"),
    [
        (1, [(0, 1)]),
        (9, [(0, 4), (4, 9)]),
        (5, [(0, 5)]),
        (10, [(0, 4), (4, 8), (8, 10)]),
        (13, [(0, 4), (4, 8), (8, 13)]),
    ],
)
def test_a_last_batch_of_one_joins_the_one_before(n: int, edges: list[tuple[int, int]]) -> None:
    assert batch_edges(n, 4) == edges
