"""Scores of trained classifiers: the authors' definitions, and the sound ones beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.errors import DataError

__all__ = [
    "Scores",
    "average_precision",
    "best_average_epoch",
    "classifier_scores",
    "d_prime",
    "middle_point",
    "per_second_scores",
    "roc_auc",
]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Scores:
    """What the authors write per epoch; means over the classes that could be scored."""

    accuracy: float
    mean_ap: float
    mean_auc: float
    d_prime: float
    middle_precision: float
    middle_recall: float
    ap: Array  # [n_classes] float64, NaN for a class that was left out
    auc: Array  # [n_classes]
    n_left_out: int  # classes without a positive or without a negative clip

    def main(self, metric: str) -> float:
        """Return the score that decides: "acc" or "mAP"."""
        return self.accuracy if metric == "acc" else self.mean_ap


def _curve(scores: Array, truth: Array) -> tuple[Array, Array]:
    """Return (true positives, predicted positives) at every distinct threshold, highest first."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(truth[order].astype(np.float64))
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    return hits[last], last + 1.0


def average_precision(scores: Array, truth: Array) -> float:
    """Return the area under the precision-recall steps, as scikit-learn defines it."""
    hits, predicted = _curve(scores, truth)
    recall = hits / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * hits / predicted))


def roc_auc(scores: Array, truth: Array) -> float:
    """Return the probability that a positive outranks a negative, ties counting half."""
    hits, predicted = _curve(scores, truth)
    true = np.concatenate(([0.0], hits)) / hits[-1]
    false = np.concatenate(([0.0], predicted - hits)) / (predicted[-1] - hits[-1])
    return float(np.trapezoid(true, false))


def middle_point(scores: Array, truth: Array) -> tuple[float, float]:
    """Return the authors' "average" precision and recall: the middle of every 1000th point of the
    precision-recall curve from the lowest threshold up; with fewer points that is the first."""
    hits, predicted = _curve(scores, truth)
    precision = np.concatenate(((hits / predicted)[::-1], [1.0]))[::1000]
    recall = np.concatenate(((hits / hits[-1])[::-1], [0.0]))[::1000]
    return float(precision[len(precision) // 2]), float(recall[len(recall) // 2])


def d_prime(auc: float) -> float:
    """Return sqrt(2) times the normal quantile of an area."""
    from scipy.stats import norm

    return float(np.sqrt(2) * norm.ppf(auc))


def classifier_scores(scores: Array, truth: Array) -> Scores:
    """Score [n_clips, n_classes] against 0/1 (or soft) targets of the same shape.

    Soft targets count as positive where they are above 0; accuracy compares the places of the
    maxima. Classes without both kinds of clips are left out and counted. DataError if no class is
    left, or if a score is not finite.
    """
    if not np.isfinite(scores).all():
        raise DataError("a prediction is not a number: the model has diverged")
    accuracy = float(np.mean(scores.argmax(axis=1) == truth.argmax(axis=1)))
    positive = truth > 0
    n_classes = scores.shape[1]
    ap, auc = np.full(n_classes, np.nan), np.full(n_classes, np.nan)
    middle = []
    for k in range(n_classes):
        if not 0 < positive[:, k].sum() < len(positive):
            continue
        ap[k] = average_precision(scores[:, k], positive[:, k])
        auc[k] = roc_auc(scores[:, k], positive[:, k])
        middle.append(middle_point(scores[:, k], positive[:, k]))
    if not middle:
        raise DataError("no class has both positive and negative clips: nothing to score")
    precision, recall = (float(np.mean([m[i] for m in middle])) for i in range(2))
    mean_auc = float(np.nanmean(auc))
    return Scores(
        accuracy,
        float(np.nanmean(ap)),
        mean_auc,
        d_prime(mean_auc),
        precision,
        recall,
        ap,
        auc,
        n_classes - len(middle),
    )


def per_second_scores(logits: Array, labels: Array) -> tuple[float, float]:
    """Return (accuracy, mAP) of [n_clips, n_seconds, n_classes] against class ids
    [n_clips, n_seconds], clips and seconds flattened.

    mAP is macro over the classes that occur.
    """
    flat = logits.reshape(-1, logits.shape[-1])
    truth = labels.reshape(-1)
    accuracy = float(np.mean(flat.argmax(axis=1) == truth))
    present = [k for k in range(flat.shape[1]) if (truth == k).any()]
    return accuracy, float(np.mean([average_precision(flat[:, k], truth == k) for k in present]))


def best_average_epoch(folds: Sequence[Array]) -> tuple[int, list[float]]:
    """Return (epoch from 0, each fold's score there): the best of the averaged first column.

    folds: tables [n_epochs, n_columns] of equal length, one per fold.
    """
    mean = np.mean([table[:, 0] for table in folds], axis=0)
    best = int(np.argmax(mean))
    return best, [float(table[best, 0]) for table in folds]
