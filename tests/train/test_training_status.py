"""`mambabench status` tells of trainings: what runs, is done, failed or was cut off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mambabench.benchmarks.depression.generated import generate
from mambabench.cli.status import command
from mambabench.errors import DataError
from mambabench.status import CellStatus, status
from mambabench.train.verb import train, train_encoder
from tests.engine.alone import Alone
from tests.train.small import SMALL, TINY
from tests.train.test_training_elsewhere import DEPMAMBA, classify, folds  # noqa: F401


class StopError(Exception):
    pass


def only(out: Path) -> CellStatus:
    (cell,) = status(out).cells
    return cell


def counts(cell: CellStatus) -> tuple[int, int, int, int]:
    return (cell.done, cell.running, cell.failed, cell.waiting)


def test_a_training_of_an_encoder(lists: Path, tmp_path: Path) -> None:
    system, _, own = SMALL["aum"]
    out = tmp_path / "out"

    def look(name: str, said: Any) -> None:
        found = status(out)
        (cell,) = found.cells
        assert counts(cell) == (0, 1, 0, 0)
        assert (cell.part, cell.unit, cell.finished) == ("train", "folds", False)
        assert [(one.verb, one.alive, one.workers) for one in found.commands] == [
            ("train", True, 1)
        ]
        if said.step == 3:
            assert cell.said == "epoch 0, step 3"
            raise StopError

    settings = {**TINY, **own, "batch_size": 4}
    run: dict[str, Any] = {"data": [lists], "settings": settings, "out": out, "device": "cpu"}
    with pytest.raises(StopError):
        train_encoder(system, show=look, **run)
    cell = only(out)
    assert counts(cell) == (0, 0, 0, 1)
    assert cell.said == "epoch 0, step 3"
    assert not status(out).commands[0].alive
    shown = CliRunner().invoke(command, ["--out", str(out)]).output
    assert f"{cell.encoder} on {cell.task}: epoch 0, step 3" in " ".join(shown.split())
    train_encoder(system, resume=True, **run)
    cell = only(out)
    assert (counts(cell), cell.finished, cell.said) == ((1, 0, 0, 0), True, "")
    assert status(out).commands == ()


def test_folds_of_workers(
    folds: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mambabench.engine.choice.make_engine", lambda *a, **k: Alone())
    out = tmp_path / "out"
    seen: list[list[tuple[int, int, int, int]]] = []

    def note(line: str) -> None:
        seen.append([counts(cell) for cell in status(out).cells])

    classify(folds, out, engine="ray", note=note)
    # of two seeds with two folds each one unit after the other: when one is told it has ended
    assert seen[0] == [(1, 0, 0, 1), (0, 0, 0, 2)]
    assert seen[2] == [(2, 0, 0, 0), (1, 0, 0, 1)]
    assert [cell.finished for cell in status(out).cells] == [True, True]
    assert not (out / "jobs").exists()


def test_seeds_and_one_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = tmp_path / "corpus", tmp_path / "out"
    generate(data)
    seen = []

    def progress(name: str, seed: int, row: dict[str, Any]) -> None:
        seen.append(status(out).cells)
        if seed == 1:
            raise DataError("seed 1 is broken")

    done = train("depmamba", data=data, settings=DEPMAMBA, seeds=2, out=out, progress=progress)
    assert done.failed
    assert [counts(cell) for cell in seen[0]] == [(0, 1, 0, 0), (0, 0, 0, 1)]
    assert seen[0][0].said == "epoch 0"
    assert [counts(cell) for cell in status(out).cells] == [(1, 0, 0, 0), (0, 0, 1, 0)]
