"""Training DepMamba: resume, seeds, selection, and an evaluation that trains nothing."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import mambabench.train as train_package
from mambabench.benchmarks.depression.generated import generate
from mambabench.errors import DataError, ProtocolError, StoreError
from mambabench.report.results import group_runs, read_runs
from mambabench.report.verb import report
from mambabench.store.records import read_predictions, read_record, record_paths
from mambabench.store.rescore import contradiction
from mambabench.train.depmamba import SplitLogits
from mambabench.train.evaluate import evaluate
from mambabench.train.state import load_tensors, save_tensors, seeded
from mambabench.train.systems.depmamba import _threshold
from mambabench.train.verb import train

TINY = {
    "task": "generated",
    "mm_input_size": 8,
    "mm_output_sizes": (8,),
    "d_state": 2,
    "expand": 1,
    "d_conv": 2,
    "epochs": 2,
    "lr": 0.01,
    "batch_size": 32,
    "augment": True,
    "dropout": 0.2,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small part of the generated corpus."""
    root = tmp_path_factory.mktemp("corpus")
    generate(root, seed=0)
    lines = (root / "labels.csv").read_text().splitlines()
    kept: list[str] = []
    for split, n in (("train", 24), ("valid", 8), ("test", 16)):
        kept += [line for line in lines if line.endswith(f",{split}")][:n]
    (root / "labels.csv").write_text("\n".join([lines[0], *kept]) + "\n")
    return root


def _train(corpus: Path, out: Path, **changes: Any) -> Any:
    more = {k: changes.pop(k) for k in list(changes) if k in ("seeds", "resume", "log", "progress")}
    return train("depmamba", data=corpus, out=out, settings={**TINY, **changes}, **more)


def _results(folder: Path) -> dict[str, bytes]:
    names = ("weights.safetensors", "run.json", "settings.json", "log.jsonl")
    return {name: (folder / name).read_bytes() for name in names}


@pytest.mark.slow
def test_same_seed_same_bytes_and_other_seed_other_weights(corpus: Path, tmp_path: Path) -> None:
    first = _train(corpus, tmp_path / "a", seeds=[0, 1])
    again = _train(corpus, tmp_path / "b", seeds=[0])
    zero, one = (seed.folder for seed in first.seeds)
    assert _results(zero) == _results(again.seeds[0].folder)
    assert _results(zero)["weights.safetensors"] != _results(one)["weights.safetensors"]
    assert not (zero / "state.safetensors").exists()
    record = json.loads((zero / "run.json").read_text())
    assert record["selection"]["split"] == "valid"
    assert record["n_train"] > 24  # crops were added
    assert [s.state for s in _train(corpus, tmp_path / "a", seeds=[0, 1]).seeds] == ["already"] * 2


def test_a_run_cut_off_continues_with_equal_bytes(corpus: Path, tmp_path: Path) -> None:
    whole = _train(corpus, tmp_path / "whole", seeds=[3]).seeds[0].folder

    def stop(_name: str, _seed: int, row: dict[str, Any]) -> None:
        if row["epoch"] == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _train(corpus, tmp_path / "cut", seeds=[3], progress=stop)
    with pytest.raises(StoreError, match="continue it with --resume"):
        _train(corpus, tmp_path / "cut", seeds=[3])
    done = _train(corpus, tmp_path / "cut", seeds=[3], resume=True).seeds[0]
    assert done.state == "resumed"
    assert _results(done.folder) == _results(whole)


def test_other_settings_do_not_mix(corpus: Path, tmp_path: Path) -> None:
    _train(corpus, tmp_path, seeds=[0], epochs=1)
    with pytest.raises(StoreError, match="was trained with another epochs"):
        _train(corpus, tmp_path, seeds=[0], epochs=3)


def test_training_opens_no_test_data_and_evaluation_trains_nothing(
    corpus: Path, tmp_path: Path
) -> None:
    without = tmp_path / "without-test"
    shutil.copytree(corpus, without)
    for line in (without / "labels.csv").read_text().splitlines():
        if line.endswith(",test"):
            shutil.rmtree(without / line.split(",")[0])
    seed = _train(without, tmp_path / "out", seeds=[0, 1]).seeds[0]
    run = seed.folder.parent
    with pytest.raises(DataError, match="16 sessions without features"):
        evaluate(run)
    before = _results(seed.folder)
    (row,) = evaluate(run, data=corpus, n_resamples=20).rows
    assert _results(seed.folder) == before
    assert all(p["sha256_before"] == p["sha256_after"] for p in row["weights"])
    assert row["result"]["n_sessions"] == 16
    assert row["baselines"]["always_positive"]["recall"] == 1
    assert set(row["result"]["genders"]) == {"f", "m"}
    assert row["baselines"]["metadata_probe"]["fields"] == ["duration", "gender"]
    assert row["audit"]["verdict"] == "no speaker in two splits"
    assert "not a diagnostic" in row["disclaimer"]
    _stands_in_a_report(tmp_path / "out", row, seeds=2)
    written = (run / "evaluation.json").read_text()
    assert json.loads(written)["seeds"] == [0, 1]
    again = evaluate(run, data=corpus, n_resamples=20)
    assert again.files[0].read_text() == written


def _stands_in_a_report(out: Path, row: dict[str, Any], seeds: int) -> None:
    """The run records hold by the report's own checks, and say what the evaluation said."""
    records = record_paths(out)
    assert [path.relative_to(out).parts[1:4] for path in records] == [
        ("depmamba", "generated", "trained")
    ] * seeds
    for path, one in zip(records, row["result"]["per_seed"], strict=True):
        record = read_record(path)
        assert contradiction(record, read_predictions(path), every=True) is None
        (fold,) = record.folds
        assert record.score == fold.scores["uar"] == pytest.approx(one["balanced_acc"], abs=1e-12)
        assert fold.scores["aucroc"] == pytest.approx(one["auc"], abs=1e-12)
        assert fold.scores["macro_f1"] == pytest.approx(one["macro_f1"], abs=1e-12)
    (group,) = group_runs(read_runs([out]))
    assert (group.encoder, group.protocol, len(group.runs)) == ("depmamba", "trained", seeds)
    assert not group.defects
    text = report(out).text
    assert "depmamba" in text
    assert "trained" in text


def test_changed_weights_are_noticed(corpus: Path, tmp_path: Path) -> None:
    folder = _train(corpus, tmp_path, seeds=[0], epochs=1).seeds[0].folder
    tensors, header = load_tensors(folder / "weights.safetensors")
    tensors["output.bias"] += 1
    save_tensors(folder / "weights.safetensors", tensors, header)
    with pytest.raises(StoreError, match="is not what the training wrote"):
        evaluate(folder, data=corpus)
    with pytest.raises(StoreError, match="neither a folder of `mambabench train`"):
        evaluate(tmp_path)


@pytest.mark.slow
def test_genders_streams_splits_and_baseline(corpus: Path, tmp_path: Path) -> None:
    women = _train(corpus, tmp_path / "f", seeds=[0], epochs=1, train_gender="f", augment=False)
    assert women.seeds[0].result["n_train"] < 24
    for modalities in ("audio", "video"):
        done = _train(corpus, tmp_path / modalities, seeds=[0], epochs=1, modalities=modalities)
        assert not done.failed
    split = _train(corpus, tmp_path / "s", seeds=[0], epochs=1, make_split=5)
    assert any("no speaker in two splits" in n for n in split.seeds[0].result["notes"])
    base = _train(corpus, tmp_path / "t", seeds=[0], epochs=1, model="TMeanNet", hidden_sizes=[8])
    assert base.seeds[0].result["n_parameters"] == 161 * 8 + 8 + 9


def test_missing_sessions_are_listed_or_allowed(corpus: Path, tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    shutil.copytree(corpus, root)
    shutil.rmtree(root / "3")
    with pytest.raises(DataError, match="1 sessions without features: 3; go on without them"):
        _train(root, tmp_path / "out", seeds=[0])
    done = _train(root, tmp_path / "out", seeds=[0], epochs=1, allow_missing=True)
    assert "1 sessions without features: 3" in done.seeds[0].result["notes"]


@pytest.mark.slow
def test_broken_data_fail_one_seed_and_say_why(corpus: Path, tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    shutil.copytree(corpus, root)
    np.save(root / "0" / "0_visual.npy", np.zeros((15, 136), np.float32))
    np.save(root / "0" / "0_acoustic.npy", np.zeros((15, 25), np.float32))
    done = _train(root, tmp_path / "out", seeds=[0], epochs=1, mode="parity", augment=False)
    assert done.failed
    assert "frames are all zero has no mean" in str(done.seeds[0].error)
    assert not _train(root, tmp_path / "ok", seeds=[0], epochs=1, augment=False).failed


def test_errors_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="no setting 'epoch'; did you mean 'epochs'"):
        train("depmamba", settings={"epoch": 3}, out=tmp_path)
    with pytest.raises(ProtocolError, match="mode is 'mask', not one of parity, masked"):
        train("depmamba", settings={"mode": "mask"}, out=tmp_path)
    with pytest.raises(ProtocolError, match="lr is 'fast', not float"):
        train("depmamba", settings={"lr": "fast"}, out=tmp_path)
    with pytest.raises(ProtocolError, match="no system 'depmamb'; did you mean 'depmamba'"):
        train("depmamb", out=tmp_path)
    with pytest.raises(DataError, match="give its folder with --data DIR"):
        train("depmamba", task="dvlog", out=tmp_path)
    with pytest.raises(ProtocolError, match="'daic_woz' is no feature corpus"):
        train("depmamba", task="daic_woz", data=tmp_path, out=tmp_path)
    with pytest.raises(ProtocolError, match="no logger 'wandbb'; did you mean 'wandb'"):
        train("depmamba", log=("wandbb",), out=tmp_path)
    with pytest.raises(ProtocolError, match="no logger 'tensorboard'; there are jsonl, wandb"):
        train("depmamba", log=("tensorboard",), out=tmp_path)
    assert not any(tmp_path.iterdir())


def test_log_goes_to_wandb_under_the_published_names(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a network and without the package: a module in its place records the calls."""
    calls: list[tuple[str, Any]] = []
    run = SimpleNamespace(
        log=lambda row, step: calls.append(("log", (step, row))),
        summary={},
        finish=lambda: calls.append(("finish", None)),
    )

    def init(**arguments: Any) -> Any:
        calls.append(("init", arguments))
        return run

    module = ModuleType("wandb")
    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    done = _train(corpus, tmp_path, seeds=[0], epochs=2, log=("wandb",))
    assert calls[0][1]["project"] == "mamnba_ad"
    assert calls[0][1]["name"] == "DepMamba-both-both"
    step, row = calls[2][1]
    assert step == 1
    assert set(row) == {
        "loss/train",
        "acc/train",
        *(f"{n}/val" for n in ("loss", "acc", "precision", "recall", "f1")),
    }
    assert calls[-1][0] == "finish"
    assert run.summary["best_epoch"] == done.seeds[0].result["best_epoch"]
    lines = (done.seeds[0].folder / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1]
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ProtocolError, match="needs the package wandb"):
        train("depmamba", data=corpus, out=tmp_path / "x", settings=TINY, seeds=1, log=("wandb",))


def test_threshold_from_validation_prefers_the_one_nearest_to_zero() -> None:
    logit = np.array([-3.0, -2.0, 1.0, 2.0], np.float32)
    assert _threshold(SplitLogits(logit, np.array([0, 0, 1, 1]), 0.0)) == 0
    assert _threshold(SplitLogits(logit + 5, np.array([0, 0, 1, 1]), 0.0)) == pytest.approx(4.5)


def test_seeding_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(5)
    want = torch.rand(3)
    torch.manual_seed(5)
    with seeded(1, "x"):
        first = torch.rand(2)
    assert torch.equal(torch.rand(3), want)
    with seeded(1, "x"):
        assert torch.equal(torch.rand(2), first)
    with seeded(2, "x"):
        assert not torch.equal(torch.rand(2), first)


def test_the_package_is_callable() -> None:
    with pytest.raises(ProtocolError, match="no system"):
        train_package("nothing")
