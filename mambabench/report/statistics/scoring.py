"""A metric on one fold, seen two ways: under clip weights, and as a sum over clips.

Every metric is averaged over the seeds. Accuracies are sums over clips as they stand; mAP, AUC, d'
and metrics of counts are linearised at the observed sample (infinitesimal jackknife), so that each
clip's part of the score sums to the score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.report.statistics.ranking import influence, weighted

__all__ = ["RANKED", "FoldScore", "fold_score", "score_of_counts"]

Array = npt.NDArray[Any]
Seed = Mapping[str, Array]  # one seed's arrays of one fold, clips in the order of the fold
ScoreOfCounts = Callable[[Array], Array]  # [..., k] -> [...]

_LINEAR = ("top1_acc", "pitch_acc", "chroma_acc")
RANKED = ("mAP", "aucroc", "d_prime")


@dataclass(frozen=True)
class FoldScore:
    """One fold's seed-mean score."""

    parts: Array | None  # [n_clips] float64, sums to the score; None: no such decomposition
    resampled: Callable[[Array], Array]  # weights uint8 [n_clips, n] -> scores float64 [n]
    score: float  # at weights of one
    counts: Array | None = None  # [n_seeds, n_clips, k], where the score is a function of its sum


def fold_score(metric: str, seeds: Sequence[Seed]) -> FoldScore:
    """Prepare `metric` on one fold from the predictions of all seeds.

    Predictions with ``counts:<metric>`` are scored from these sums; else accuracies, mAP, AUC and
    d' by their own rules; any other scene metric through `benchmarks.metrics`, resample by
    resample and without parts. KeyError where an array or the metric is unknown.
    """
    if f"counts:{metric}" in seeds[0]:
        counts = np.stack([seed[f"counts:{metric}"] for seed in seeds]).astype(np.float64)
        return _of_counts(counts, score_of_counts(metric))
    if metric in _LINEAR:
        correct = [_correct(metric, seed["target"], seed["probability"]) for seed in seeds]
        return _linear(np.mean(correct, axis=0))
    if metric in RANKED:
        return _ranked(metric, seeds)
    if metric in ("macro_f1", "uar"):
        counts = np.stack([_confusion(seed["target"], seed["probability"]) for seed in seeds])
        return _of_counts(counts, _macro_f1 if metric == "macro_f1" else _uar)
    return _generic(metric, seeds)


def score_of_counts(metric: str) -> ScoreOfCounts:
    """Return the function from summed counts [..., k] to scores [...] of an event metric."""
    from mambabench.benchmarks.metrics import METRICS

    score: ScoreOfCounts = METRICS[metric].score
    return score


def _correct(metric: str, target: Array, probability: Array) -> Array:
    predicted = probability.argmax(axis=1)
    truth = target.argmax(axis=1) if target.ndim == 2 else target  # the first positive label
    if metric == "chroma_acc":
        predicted, truth = predicted % 12, truth % 12
    return np.asarray(predicted == truth, np.float64)


def _linear(correct: Array) -> FoldScore:
    def resampled(weights: Array) -> Array:
        drawn = weights.sum(axis=0, dtype=np.float64)
        return np.asarray(_product(correct[None], weights)[0] / drawn)

    return FoldScore(correct / len(correct), resampled, float(correct.mean()))


def _product(values: Array, weights: Array) -> Array:
    """values [m, n_clips] float64 times weights [n_clips, n] uint8, in bounded memory."""
    step = max(1, 8_000_000 // len(weights))
    parts = [
        values @ weights[:, start : start + step].astype(np.float64)
        for start in range(0, weights.shape[1], step)
    ]
    return np.concatenate(parts, axis=1)


def _of_counts(counts: Array, score: ScoreOfCounts) -> FoldScore:
    """counts [n_seeds, n_clips, k]."""
    n_seeds, n_clips, k = counts.shape
    flat = counts.transpose(0, 2, 1).reshape(n_seeds * k, n_clips)
    totals = counts.sum(axis=1)
    scores = score(totals)

    def resampled(weights: Array) -> Array:
        sums = _product(flat, weights).reshape(n_seeds, k, -1)
        return np.asarray(score(sums.transpose(0, 2, 1)).mean(axis=0))

    parts = np.zeros(n_clips)
    for seed in range(n_seeds):
        slope = _gradient(score, totals[seed])
        parts += scores[seed] / n_clips + (counts[seed] - totals[seed] / n_clips) @ slope
    return FoldScore(parts / n_seeds, resampled, float(scores.mean()), counts)


def _gradient(score: ScoreOfCounts, totals: Array) -> Array:
    """Central differences of a score of counts, [k]."""
    step = 1e-4 * np.maximum(np.abs(totals), 1.0)
    shifts = np.diag(step)
    slope = (score(totals + shifts) - score(totals - shifts)) / (2 * step)
    return np.nan_to_num(slope)


def _confusion(target: Array, probability: Array) -> Array:
    """Per clip: hits, truths and predictions of every class, [n_clips, 3 * n_classes]."""
    n_clips, n_classes = probability.shape
    truth, predicted = np.zeros((2, n_clips, n_classes))
    truth[np.arange(n_clips), target] = 1
    predicted[np.arange(n_clips), probability.argmax(axis=1)] = 1
    return np.concatenate([truth * predicted, truth, predicted], axis=1)


def _uar(totals: Array) -> Array:
    """Mean recall of the classes that occur."""
    hits, truths, _ = np.split(totals, 3, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nanmean(np.where(truths > 0, hits / truths, np.nan), axis=-1))


def _macro_f1(totals: Array) -> Array:
    """Mean F1 of the classes that occur or are predicted; 0 for one never hit."""
    hits, truths, predictions = np.split(totals, 3, axis=-1)
    either = truths + predictions
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nanmean(np.where(either > 0, 2 * hits / either, np.nan), axis=-1))


def _ranked(metric: str, seeds: Sequence[Seed]) -> FoldScore:
    pairs = [
        (_multilabel(seed["target"], seed["probability"]), seed["probability"]) for seed in seeds
    ]
    scores, parts = [], []
    for target, probability in pairs:
        values, slopes = influence(target, probability)
        value, part = _combine(metric, values, slopes)
        scores.append(value)
        parts.append(part)
    present = float(np.mean(pairs[0][0].any(axis=0)))

    def resampled(weights: Array) -> Array:
        def one(pair: tuple[Array, Array]) -> Array:
            values = weighted(pair[0], pair[1], weights)
            return _macro(metric, values.average_precision, values.auc, present)

        with ThreadPoolExecutor() as pool:  # the kernel lets go of the interpreter's lock
            return np.asarray(np.mean(list(pool.map(one, pairs)), axis=0))

    return FoldScore(np.mean(parts, axis=0), resampled, float(np.mean(scores)))


def _multilabel(target: Array, probability: Array) -> Array:
    if target.ndim == 2:
        return target.astype(bool)
    hot = np.zeros(probability.shape, bool)
    hot[np.arange(len(target)), target] = True
    return hot


def _macro(metric: str, precision: Array, auc: Array, present: float) -> Array:
    """Mean over classes [n]: mAP counts a class without any positive clip as 0, as scikit-learn.

    A class that merely drew no positive in a resample is left out of it: it says nothing there.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        if metric == "mAP":
            return np.asarray(np.nanmean(precision, axis=0) * present)
        if metric == "aucroc":
            return np.asarray(np.nanmean(auc, axis=0))
        return np.asarray(np.nanmean(_d_prime(auc), axis=0))


def _d_prime(auc: Array) -> Array:
    from scipy.special import ndtri

    return np.asarray(np.sqrt(2.0) * ndtri(auc))


def _combine(metric: str, values: Any, slopes: Any) -> tuple[float, Array]:
    """Return the macro score of one seed and its parts [n_clips]."""
    n_clips = slopes.auc.shape[1]
    if metric == "mAP":
        average = np.nan_to_num(values.average_precision[:, 0])
        slope = np.nan_to_num(slopes.average_precision).mean(axis=0)
        score = float(average.mean())
    elif metric == "aucroc":
        score, slope = float(values.auc.mean()), slopes.auc.mean(axis=0)
    else:
        detect = _d_prime(values.auc)
        density = np.exp(-0.25 * detect**2) / np.sqrt(2 * np.pi)  # of ndtri(AUC) = d' / sqrt(2)
        score = float(detect.mean())
        with np.errstate(invalid="ignore", divide="ignore"):
            slope = (np.sqrt(2.0) / density * slopes.auc).mean(axis=0)
    return score, score / n_clips + slope


def _generic(metric: str, seeds: Sequence[Seed]) -> FoldScore:
    """Score clips repeated by their weights, for metrics that this module has no rule for."""
    from mambabench.benchmarks.metrics import METRICS

    function = METRICS[metric]

    def at(clips: Array) -> float:
        values = [function(seed["target"][clips], seed["probability"][clips]) for seed in seeds]
        return float(np.mean(values))

    def resampled(weights: Array) -> Array:
        clips = np.arange(len(weights))
        return np.array([at(np.repeat(clips, column)) for column in weights.T])

    return FoldScore(None, resampled, at(np.arange(len(seeds[0]["target"]))))
