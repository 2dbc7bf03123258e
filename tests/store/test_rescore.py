"""Scores are computed once more from predictions: what agrees, what does not, and by how much."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mambabench.store.records import FoldResult, RunRecord
from mambabench.store.rescore import contradiction


def record(score: float, n_test: int, **grid_point: str) -> RunRecord:
    fold = FoldResult(
        fold="test",
        scores={"top1_acc": score},
        grid_point=dict(grid_point),
        validation_score=None,
        best_epoch=None,
        n_epochs=None,
        n_test=n_test,
        head_sha256=None,
    )
    return RunRecord(
        encoder="an",
        encoder_identity="",
        task="task",
        protocol="superb",
        seed=0,
        layers=None,
        metric="top1_acc",
        higher_is_better=True,
        n_labels=2,
        folds=(fold,),
        score=score,
        reason=None,
    )


def predictions(first: list[float]) -> dict[str, np.ndarray]:
    """Clips of the second of two classes, and what the first class is given."""
    probability = np.array([[p, 1 - p] for p in first], np.float32)
    n = len(first)
    return {
        "test/clip": np.array([f"{i}.wav" for i in range(n)]),
        "test/target": np.ones(n, np.int64),
        "test/probability": probability,
    }


def test_a_score_of_logits_may_differ_by_the_clips_that_tie() -> None:
    tied = predictions([0.5, 0.1, 0.9, 0.2])  # the first class wins a tie: 2 of 4
    weighted = record(0.75, 4, layer_weights="1.0")
    assert contradiction(weighted, tied) is None
    assert contradiction(record(0.5, 4, layer_weights="1.0"), tied) is None
    assert contradiction(record(1.0, 4, layer_weights="1.0"), tied) is not None


def test_without_a_tie_a_clip_more_or_less_is_told() -> None:
    clear = predictions([0.4, 0.1, 0.9, 0.2])
    assert contradiction(record(0.75, 4, layer_weights="1.0"), clear) is None
    told = contradiction(record(0.5, 4, layer_weights="1.0"), clear)
    assert told == "top1_acc of fold test is 0.5 in the record, its predictions give 0.75"


def test_other_heads_are_scored_by_what_is_stored() -> None:
    tied = predictions([0.5, 0.1, 0.9, 0.2])
    assert contradiction(record(0.5, 4), tied) is None
    assert contradiction(record(0.75, 4), tied) is not None
    short = record(0.5, 3)
    assert "has not the 3 test clips" in str(contradiction(short, tied))
    mean = replace(record(0.5, 4), score=0.6)
    assert "score is 0.6, the mean over its folds 0.5" in str(contradiction(mean, tied))
