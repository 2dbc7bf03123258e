"""Scores of a binary detector: the published four, and those that keep them honest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Confusion", "auc", "binary_scores", "ccc", "confusion", "published_scores"]

Values = npt.NDArray[Any]


@dataclass(frozen=True)
class Confusion:
    """Counts of a binary decision."""

    tp: int
    fp: int
    tn: int
    fn: int

    @property
    def n(self) -> int:
        """Number of items."""
        return self.tp + self.fp + self.tn + self.fn


def confusion(predicted: Values, label: Values) -> Confusion:
    """Count a decision [n] bool against labels [n] of 0 and 1."""
    predicted, label = np.asarray(predicted, bool), np.asarray(label) == 1
    return Confusion(
        tp=int(np.sum(predicted & label)),
        fp=int(np.sum(predicted & ~label)),
        tn=int(np.sum(~predicted & ~label)),
        fn=int(np.sum(~predicted & label)),
    )


def _ratio(a: float, b: float) -> float:
    return a / b if b else 0.0


def published_scores(counts: Confusion) -> dict[str, float]:
    """Return accuracy, and precision, recall and F1 of the positive class; 0 where undefined.

    `selection_score` is their mean, by which the published code chooses its epoch.
    """
    precision = _ratio(counts.tp, counts.tp + counts.fp)
    recall = _ratio(counts.tp, counts.tp + counts.fn)
    scores = {
        "acc": _ratio(counts.tp + counts.tn, counts.n),
        "precision": precision,
        "recall": recall,
        "f1": _ratio(2 * precision * recall, precision + recall),
    }
    return {**scores, "selection_score": sum(scores.values()) / 4}


def auc(score: Values, label: Values) -> float:
    """Return the area under the ROC curve (ties count half); NaN with one class only."""
    from scipy.stats import rankdata

    score, positive = np.asarray(score, float), np.asarray(label) == 1
    n_pos, n_neg = int(positive.sum()), int((~positive).sum())
    if n_pos == 0 or n_neg == 0 or np.isnan(score).any():
        return float("nan")
    ranks = rankdata(score)
    return float((ranks[positive].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg))


def binary_scores(score: Values, label: Values, threshold: float = 0.0) -> dict[str, float]:
    """Return every score of a row: decisions are ``score > threshold``; NaN where undefined.

    score [n] float (higher means positive), label [n] of 0 and 1.
    """
    counts = confusion(np.asarray(score) > threshold, label)
    published = published_scores(counts)
    del published["selection_score"]
    f1_negative = _ratio(2 * counts.tn, 2 * counts.tn + counts.fp + counts.fn)
    sensitivity = counts.tp / (counts.tp + counts.fn) if counts.tp + counts.fn else float("nan")
    specificity = counts.tn / (counts.tn + counts.fp) if counts.tn + counts.fp else float("nan")
    return {
        **published,
        "macro_f1": (published["f1"] + f1_negative) / 2,
        "balanced_acc": (sensitivity + specificity) / 2,
        "auc": auc(score, label),
    }


def ccc(pred: Values, true: Values) -> float:
    """Return Lin's concordance correlation coefficient; NaN where both are constant and equal."""
    pred, true = np.asarray(pred, float), np.asarray(true, float)
    spread = pred.var() + true.var() + (pred.mean() - true.mean()) ** 2
    if spread == 0:
        return float("nan")
    return float(2 * np.mean((pred - pred.mean()) * (true - true.mean())) / spread)
