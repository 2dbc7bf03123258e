"""Trainings on another engine leave the bytes of local ones, whether workers see --out or not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mambabench.benchmarks.depression.generated import generate
from mambabench.engine.units import Lost
from mambabench.errors import StoreError
from mambabench.train.verb import train, train_encoder
from tests.engine.alone import Alone
from tests.train.small import SMALL, TINY

DEPMAMBA: dict[str, Any] = {
    "task": "generated", "mm_input_size": 8, "mm_output_sizes": (8,), "d_state": 2, "expand": 1,
    "d_conv": 2, "epochs": 2, "batch_size": 32,
}  # fmt: skip


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mambabench.engine.choice.make_engine", lambda *a, **k: Alone())


def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers not see the output folder."""
    monkeypatch.setattr("mambabench.train.away._seen", lambda path, token: False)


def left(out: Path) -> dict[str, bytes]:
    """Return what trainings left, without times and places."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted((out / "train").rglob("*"))
        if path.is_file() and path.name not in ("provenance.json", "log.jsonl")
    }


@pytest.fixture
def folds(lists: Path, tmp_path: Path) -> Path:
    """Two folds: the lists, and the lists from the end."""
    for fold in ("fold1", "fold2"):
        folder = tmp_path / "folds" / fold
        shutil.copytree(lists, folder)
    rows = json.loads((folder / "train.json").read_text())["data"]
    (folder / "train.json").write_text(json.dumps({"data": rows[::-1]}))
    shutil.copy(lists / "labels.csv", tmp_path / "folds")
    return tmp_path / "folds"


def classify(data: Path, out: Path, **more: Any) -> tuple[Any, ...]:
    system, _, own = SMALL["ssamba-classify"]
    settings = {**TINY, **own, "epochs": 1}
    return train_encoder(
        system, data=[data], settings=settings, seeds=2, out=out, device="cpu", **more
    )


@pytest.mark.parametrize("sees", [True, False])
def test_folds_and_seeds_of_an_encoder(
    folds: Path, tmp_path: Path, alone: None, monkeypatch: pytest.MonkeyPatch, sees: bool
) -> None:
    if not sees:
        blind(monkeypatch)
    here, there = tmp_path / "here", tmp_path / "there"
    classify(folds, here)
    notes: list[str] = []
    done = classify(folds, there, engine="ray", note=notes.append)
    assert [(one.state, one.error) for one in done] == [("trained", None)] * 2
    assert len(notes) == 4, "two seeds of two folds"
    assert all("done on" in note for note in notes)
    assert left(there) == left(here)
    assert len([name for name in left(here) if name.endswith("weights.safetensors")]) == 4
    assert not (there / "jobs").exists(), "the sign has gone"
    again = classify(folds, there, engine="ray", note=notes.append)
    assert [one.state for one in again] == ["already", "already"]
    assert len(notes) == 4, "nothing is trained twice"


def test_a_fold_that_is_lost_fails_its_seed_only(
    lists: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deadly(Alone):
        def run(self, function: str, units: Any, **more: Any) -> Any:
            _, *others = units
            yield 0, Lost("a worker on a node of Ray ended: gone")
            for index, result in super().run(function, others):
                yield index + 1, result

    monkeypatch.setattr("mambabench.engine.choice.make_engine", lambda *a, **k: Deadly())
    done = classify(lists, tmp_path, engine="ray")
    assert [one.state for one in done] == ["failed", "trained"]
    assert "gone; the same command tries it again" in done[0].error
    assert "gone" in json.loads((done[0].folder / "failed.json").read_text())["error"]
    assert [one.state for one in classify(lists, tmp_path, resume=True)] == ["trained", "already"]


@pytest.mark.parametrize("sees", [True, False])
def test_seeds_of_depmamba_and_one_that_was_cut_off(
    tmp_path: Path, alone: None, monkeypatch: pytest.MonkeyPatch, sees: bool
) -> None:
    if not sees:
        blind(monkeypatch)
    corpus = tmp_path / "corpus"
    generate(corpus, seed=0)
    lines = (corpus / "labels.csv").read_text().splitlines()
    kept = []
    for part, n in (("train", 24), ("valid", 8)):
        kept += [row for row in lines if row.endswith(f",{part}")][:n]
    (corpus / "labels.csv").write_text("\n".join([lines[0], *kept]) + "\n")
    here, there = tmp_path / "here", tmp_path / "there"
    given: dict[str, Any] = {"data": corpus, "settings": DEPMAMBA, "seeds": 2, "device": "cpu"}
    train("depmamba", out=here, **given)

    def stop(name: str, seed: int, row: dict[str, Any]) -> None:
        if row["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("depmamba", out=there, progress=stop, **given)
    with pytest.raises(StoreError, match="--resume"):
        train("depmamba", out=there, engine="ray", **given)
    done = train("depmamba", out=there, engine="ray", resume=True, **given)
    assert [one.state for one in done.seeds] == ["resumed", "trained"]
    assert left(there) == left(here)


def test_data_that_a_node_lacks_is_named_with_the_node(
    lists: Path, tmp_path: Path, alone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mambabench.train.away._absolute", lambda value: "/nowhere/at/all")
    (first, _) = classify(lists, tmp_path, engine="ray")
    assert first.state == "failed"
    assert first.error.startswith("node ")
    assert "/nowhere/at/all" in first.error
