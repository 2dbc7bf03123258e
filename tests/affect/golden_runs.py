"""Run the golden training runs: loop, logs, selection, and the test with the kept weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import golden_depmamba
import golden_mmml
import torch
from golden_common import Case, assert_close, assert_outputs

from mambabench.benchmarks.depression.scores import confusion, published_scores
from mambabench.models.affect.mmml import Fusion, Modality
from mambabench.models.weights.strict import load_strict
from mambabench.train import depmamba, mmml
from mambabench.train.batches import Batch, Epochs


def _count(case: Case, split: str) -> int:
    return len({key.split(".")[0] for key in case.inputs if key.startswith(split)})


def _sequences(case: Case, split: str) -> list[Batch]:
    return [
        Batch(
            case.inputs[f"{split}{i}.x"],
            case.inputs[f"{split}{i}.y"],
            {"mask": case.inputs[f"{split}{i}.mask"]},
        )
        for i in range(_count(case, split))
    ]


def run_depmamba(case: Case) -> None:
    model = golden_depmamba.build(case)
    result = depmamba.fit(
        model,
        Epochs(lambda _epoch: _sequences(case, "train"), _count(case, "train")),
        lambda: _sequences(case, "val"),
        epochs=case.info["epochs"],
        lr=case.info["lr"],
    )
    assert len(result.history) == len(case.info["log"])
    for row, want in zip(result.history, case.info["log"], strict=True):
        for part in ("train", "val"):
            assert set(row[part]) == set(want[part])
            for name, value in want[part].items():
                assert_close(case, f"{part} {name}", row[part][name], value)
        assert_close(case, "score", row["score"], want["score"])
    assert result.best_epoch == case.info["best_epoch"]
    model.load_state_dict(result.weights)
    test = depmamba.predict(model, _sequences(case, "test"))
    scores = {"loss": test.loss, **published_scores(confusion(test.logit > 0, test.label))}
    for name, value in case.info["test"].items():
        assert_close(case, f"test {name}", scores[name], value)
    got = {
        "scores": [row["score"] for row in result.history],
        "train_loss": [row["train"]["loss"] for row in result.history],
        "val_loss": [row["val"]["loss"] for row in result.history],
    }
    assert_outputs(case, got)


def _modality(case: Case, prefix: str, part: str) -> Modality:
    def value(name: str) -> torch.Tensor:
        return case.inputs[f"{prefix}.{name}"]

    tokens = value(f"text{part}_tokens")  # the pooled state, then the tokens
    return Modality(
        tokens[:, 1:],
        tokens[:, 0],
        value(f"text{part}_masks"),
        value(f"audio{part}_inputs"),
        value(f"audio{part}_masks").sum(1),
    )


def _batches(case: Case, split: str) -> Iterator[Batch]:
    for i in range(_count(case, split)):
        prefix = f"{split}{i}"
        parts = [_modality(case, prefix, "")]
        if case.info["context"]:
            parts.append(_modality(case, prefix, "_context"))
        single = case.inputs.get(f"{prefix}.y")
        targets = {
            head: case.inputs.get(f"{prefix}.y_{head}", single).reshape(-1) for head in "MTA"
        }
        yield mmml.fusion_batch(tuple(parts), targets)


def run_mmml(case: Case) -> None:
    info: dict[str, Any] = case.info
    model = Fusion(golden_mmml.fusion_config(case, dropout=0.0))
    assert case.weights is not None
    load_strict(model, case.weights, "golden weights")
    rules = mmml.Rules(
        dataset=info["dataset"], tasks=info["tasks"], lr=info["lr"], early_stop=info["early_stop"]
    )
    result = mmml.fit(
        model,
        Epochs(lambda _epoch: _batches(case, "train"), _count(case, "train")),
        lambda: _batches(case, "val"),
        rules,
    )
    assert len(result.history) == info["n_epochs_run"]
    logged = [part for row in result.history for part in (row["train"], row["val"])]
    wanted = [row for row in info["log"] if row["mode"] != "TEST"]
    for got, want in zip(logged, wanted, strict=True):
        _assert_row(case, got, want)
    for weights, name in (
        (result.by_loss, "test_lowest_val_loss"),
        (result.by_accuracy, "test_highest_val_acc"),
    ):
        model.load_state_dict(weights)
        scores = mmml.score(model, _batches(case, "test"), rules, mmml.call)
        _assert_row(case, scores, info[name])
    got = {
        "train_loss": [row["train"]["Loss"] for row in result.history],
        "val_loss": [row["val"]["Loss"] for row in result.history],
    }
    assert_outputs(case, got)


def _assert_row(case: Case, got: dict[str, float], want: dict[str, Any]) -> None:
    assert set(got) == set(want) - {"mode"}
    for name, value in got.items():
        assert_close(case, name, value, want[name])
