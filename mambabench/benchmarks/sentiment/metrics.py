"""The scores of sentiment analysis exactly as the field's common evaluation computes them.

Source: MMSA (thuiar/MMSA, metricsTop), whose numbers every table on MOSI, MOSEI and CH-SIMS quotes;
quirks included. Inputs are float32 as they come from a network; every score is rounded to four
decimals. NaN stands for a correlation with a constant.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.errors import DataError, ProtocolError, nearest_names

__all__ = [
    "COLUMNS",
    "DATASETS",
    "NoNonZeroError",
    "NotANumberError",
    "sentiment_scores",
    "weighted_f1",
]

Values = npt.NDArray[Any]

DATASETS = ("mosi", "mosei", "sims")
_ENGLISH = (
    "Has0_acc_2",
    "Has0_F1_score",
    "Non0_acc_2",
    "Non0_F1_score",
    "Mult_acc_5",
    "Mult_acc_7",
    "MAE",
    "Corr",
)
COLUMNS: dict[str, tuple[str, ...]] = {  # in the order of the published tables
    "mosi": _ENGLISH,
    "mosei": _ENGLISH,
    "sims": ("Mult_acc_2", "Mult_acc_3", "Mult_acc_5", "F1_score", "MAE", "Corr"),
}


class NoNonZeroError(DataError, IndexError):
    """No item has a non-neutral label, so the Non0 scores do not exist."""


class NotANumberError(DataError, ValueError):
    """A prediction is NaN where the scores have no room for it."""


def sentiment_scores(pred: Values, true: Values, dataset: str) -> dict[str, float]:
    """Return the scores of `dataset` ("mosi", "mosei" or "sims").

    Regression: pred and true [n] float. Classification (mosi and mosei only): pred [n, 3] logits of
    negative, neutral, positive; true [n] of 0, 1, 2. Raises ProtocolError for an unknown dataset,
    NoNonZeroError and NotANumberError where the original stops with IndexError and ValueError.
    """
    if dataset not in DATASETS:
        raise ProtocolError(f"no scores for dataset {dataset!r}{nearest_names(dataset, DATASETS)}")
    pred, true = np.asarray(pred), np.asarray(true)
    if pred.shape[:1] != true.shape:
        raise DataError(f"{len(pred)} predictions for {len(true)} labels")
    if len(true) == 0:
        raise DataError("no items to score")
    kind: Callable[[Values, Values], dict[str, float]]
    if pred.ndim == 2:
        if dataset == "sims":
            raise ProtocolError("there are no three-class scores for sims; give one value per item")
        kind = _english_classes
    else:
        kind = _sims if dataset == "sims" else _english
    return {name: round(float(value), 4) for name, value in kind(pred, true).items()}


def weighted_f1(true: Values, pred: Values) -> float:
    """Return the F1 of every class, weighted by its share of `true`; 0 where undefined."""
    total = 0.0
    for label in np.unique(true):
        is_true, is_pred = true == label, pred == label
        hits = np.sum(is_true & is_pred)
        total += is_true.sum() * 2 * hits / (is_true.sum() + is_pred.sum())
    return float(total / len(true))


def _same(a: Values, b: Values) -> float:
    return float(np.mean(a == b))


def _correlation(pred: Values, true: Values) -> float:
    if len(pred) < 2:
        return float("nan")
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.corrcoef(pred, true)[0, 1])


def _non_zero(keep: Values) -> Values:
    if not keep.any():
        raise NoNonZeroError("every label is neutral: the Non0 scores are undefined")
    return keep


def _english(pred: Values, true: Values) -> dict[str, float]:
    """MOSI and MOSEI: values in [-3, 3]; 0 counts as positive in the Has0 scores."""
    some = _non_zero(true != 0)
    classes = {
        limit: (np.round(np.clip(pred, -limit, limit)), np.round(np.clip(true, -limit, limit)))
        for limit in (2.0, 3.0)
    }
    return {
        "Has0_acc_2": _same(pred >= 0, true >= 0),
        "Has0_F1_score": weighted_f1(true >= 0, pred >= 0),
        "Non0_acc_2": _same(pred[some] > 0, true[some] > 0),
        "Non0_F1_score": weighted_f1(true[some] > 0, pred[some] > 0),
        "Mult_acc_5": _same(*classes[2.0]),
        "Mult_acc_7": _same(*classes[3.0]),
        "MAE": float(np.mean(np.abs(pred - true))),
        "Corr": _correlation(pred, true),
    }


def _bins(values: Values, edges: Sequence[float]) -> Values:
    """Return the index of the interval (edges[i], edges[i + 1]] of every value."""
    index = np.full(len(values), -1)
    for i, (low, high) in enumerate(itertools.pairwise(edges)):
        index[(values > low) & (values <= high)] = i
    return index


def _sims(pred: Values, true: Values) -> dict[str, float]:
    """CH-SIMS: values clipped to [-1, 1] first; 0 counts as negative."""
    if np.isnan(pred).any() or np.isnan(true).any():
        where = int(np.flatnonzero(np.isnan(pred) | np.isnan(true))[0])
        raise NotANumberError(f"item {where} is NaN: the classes of sims are undefined")
    pred, true = np.clip(pred, -1.0, 1.0), np.clip(true, -1.0, 1.0)
    edges = {
        2: (-1.01, 0.0, 1.01),
        3: (-1.01, -0.1, 0.1, 1.01),
        5: (-1.01, -0.7, -0.1, 0.1, 0.7, 1.01),
    }
    binned = {n: (_bins(pred, e), _bins(true, e)) for n, e in edges.items()}
    return {
        "Mult_acc_2": _same(*binned[2]),
        "Mult_acc_3": _same(*binned[3]),
        "Mult_acc_5": _same(*binned[5]),
        "F1_score": weighted_f1(binned[2][1], binned[2][0]),
        "MAE": float(np.mean(np.abs(pred - true))),
        "Corr": _correlation(pred, true),
    }


def _english_classes(pred: Values, true: Values) -> dict[str, float]:
    """Three-class logits; in the Non0 scores a positive item is never right, as published."""
    some = _non_zero(true != 1)
    three, two = pred.argmax(1), pred[:, (0, 2)].argmax(1)
    return {
        "Has0_acc_2": _same(two, true == 2),
        "Has0_F1_score": weighted_f1(true == 2, two),
        "Non0_acc_2": _same(two[some], true[some]),
        "Non0_F1_score": weighted_f1(true[some], two[some]),
        "Acc_3": _same(three, true),
        "F1_score_3": weighted_f1(true, three),
    }
