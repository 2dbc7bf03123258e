"""Compute a record's scores once more from its predictions, and say where the two disagree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mambabench.benchmarks.metrics import metric_of
from mambabench.store.records import FoldResult, RunRecord

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["contradiction", "score_of"]

Arrays = Mapping[str, "npt.NDArray[Any]"]


def contradiction(record: RunRecord, predictions: Arrays, *, every: bool = False) -> str | None:
    """Say in what the record's scores are not those of its predictions; None where they agree.

    The primary metric of every fold is computed again, `every` one where asked for, and the mean
    over folds. A score that no array allows to compute is believed.
    """
    for fold in record.folds:
        prefix = f"{fold.fold}/"
        own = {k[len(prefix) :]: v for k, v in predictions.items() if k.startswith(prefix)}
        if "clip" not in own or len(own["clip"]) != fold.n_test:
            return f"fold {fold.fold} has not the {fold.n_test} test clips that the record names"
        for metric in fold.scores if every else (record.metric,):
            known, found = score_of(metric, own)
            stated = fold.scores.get(metric)
            if known and not _equal(stated, found, _tolerance(fold, own)):
                return (
                    f"{metric} of fold {fold.fold} is {_shown(stated)} in the record, its "
                    f"predictions give {_shown(found)}"
                )
    scores = [fold.scores.get(record.metric) for fold in record.folds]
    defined = [score for score in scores if score is not None]
    mean = sum(defined) / len(defined) if scores and len(defined) == len(scores) else None
    if record.folds and not _equal(record.score, mean, 1e-9):
        return f"score is {_shown(record.score)}, the mean over its folds {_shown(mean)}"
    return None


def score_of(metric: str, own: Arrays) -> tuple[bool, float | None]:
    """Return whether a fold's arrays allow to compute the metric, and its value (None: undefined).

    `own` are the arrays of one fold without the fold's name.
    """
    known, value = metric_of(metric).stored(own)
    return known, _finite(value)


def _tolerance(fold: FoldResult, own: Arrays) -> float:
    """Return by how much a score may differ: the share of clips whose largest values tie.

    Heads over layer weights are scored by logits; stored softmax values may tie where these do not.
    """
    probability = own.get("probability")
    if "layer_weights" not in fold.grid_point or probability is None or not len(probability):
        return 1e-9
    tied = (probability == probability.max(axis=1, keepdims=True)).sum(axis=1) > 1
    return 1e-9 + float(tied.mean())


def _equal(one: float | None, other: float | None, tolerance: float) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=tolerance)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.6g}"
