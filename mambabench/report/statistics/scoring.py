"""A metric on one fold under clip weights and, where it is one, as a sum over clips.

Every metric is averaged over the seeds. Accuracies and UAR are sums over clips as they stand; no
other metric is, and none is linearised: two encoders are compared by exchanging whole clips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.report.statistics.ranking import weighted

__all__ = [
    "ACCURACIES",
    "RANKED",
    "FoldScore",
    "ScoreOfCounts",
    "Seed",
    "counts_of",
    "fewest_of_a_label",
    "fold_score",
    "gradient",
    "macro",
    "multilabel",
    "unit_sizes",
]

Array = npt.NDArray[Any]
Seed = Mapping[str, Array]  # one seed's arrays of one fold, clips in the order of the fold
ScoreOfCounts = Callable[[Array], Array]  # [..., k] -> [...]

_OF_ONE_LABEL = ("top1_acc", "pitch_acc", "chroma_acc")
ACCURACIES = (*_OF_ONE_LABEL, "joint_acc")
RANKED = ("mAP", "aucroc", "d_prime")


@dataclass(frozen=True)
class FoldScore:
    """One fold's seed-mean score."""

    parts: Array | None  # [n_clips] float64, sums to the score exactly; None: it is no such sum
    resampled: Callable[[Array], Array]  # weights uint8 [n_clips, n] -> scores float64 [n]
    score: float  # at weights of one


def fold_score(metric: str, seeds: Sequence[Seed]) -> FoldScore:
    """Prepare `metric` on one fold from the predictions of all seeds.

    Predictions with ``counts:<metric>`` are scored from these sums; else accuracies, UAR, macro F1,
    mAP, AUC and d' by their own rules; any other scene metric through `benchmarks.metrics`,
    resample by resample. KeyError where an array or the metric is unknown.
    """
    if metric in _OF_ONE_LABEL:
        correct = [_correct(metric, seed["target"], seed["probability"]) for seed in seeds]
        return _linear(np.mean(correct, axis=0))
    if (counted := counts_of(metric, seeds)) is not None:
        counts, score = counted
        own = _of_counts(counts, score)
        if metric == "joint_acc" and (counts[..., 1] == 1).all():
            return _linear(counts[..., 0].mean(axis=0))
        return own if metric != "uar" else FoldScore(_uar_parts(counts), own.resampled, own.score)
    if metric in RANKED:
        return _ranked(metric, seeds)
    return _generic(metric, seeds)


def counts_of(metric: str, seeds: Sequence[Seed]) -> tuple[Array, ScoreOfCounts] | None:
    """Return counts float64 [n_seeds, n_clips, k] and the metric as a function of their sums.

    None where the metric is no function of such sums.
    """
    if f"counts:{metric}" in seeds[0]:
        from mambabench.benchmarks.metrics import METRICS

        counts = np.stack([seed[f"counts:{metric}"] for seed in seeds]).astype(np.float64)
        of_sums: ScoreOfCounts = METRICS[metric].score
        return counts, of_sums
    if metric in _OF_CONFUSION:
        confusion = [_confusion(seed["target"], seed["probability"]) for seed in seeds]
        return np.stack(confusion), _OF_CONFUSION[metric]
    return None


def unit_sizes(metric: str, seed: Seed) -> Array:
    """Return how much each clip holds of what is scored, float64 [n_clips]: events, or itself."""
    counts = seed.get(f"counts:{metric}")
    if counts is None:
        return np.ones(len(seed["clip"]))
    return np.asarray(np.asarray(counts, np.float64).sum(axis=1))


def _correct(metric: str, target: Array, probability: Array) -> Array:
    predicted = probability.argmax(axis=1)
    truth = _label_index(target)
    if metric == "chroma_acc":
        predicted, truth = predicted % 12, truth % 12
    return np.asarray(predicted == truth, np.float64)


def fewest_of_a_label(metric: str, seed: Seed) -> int | None:
    """Return how many clips the rarest label has (or has not), where a metric averages over labels.

    None for other metrics; labels without any clip do not count.
    """
    if metric in RANKED:
        positive = multilabel(seed["target"], seed["probability"]).sum(axis=0)
        both = np.minimum(positive, len(seed["target"]) - positive)
        counts = positive if metric == "mAP" else both
    elif metric in _OF_CONFUSION:
        counts = np.bincount(_label_index(seed["target"]))
    else:
        return None
    return int(counts[counts > 0].min(initial=len(seed["target"])))


def _label_index(target: Array) -> Array:
    return np.asarray(target.argmax(axis=1) if target.ndim == 2 else target)  # the first positive


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

    def resampled(weights: Array) -> Array:
        sums = _product(flat, weights).reshape(n_seeds, k, -1)
        return np.asarray(score(sums.transpose(0, 2, 1)).mean(axis=0))

    return FoldScore(None, resampled, float(score(counts.sum(axis=1)).mean()))


def gradient(score: ScoreOfCounts, totals: Array) -> Array:
    """Central differences of a score of counts, [k]; 0 where it is undefined."""
    step = 1e-4 * np.maximum(np.abs(totals), 1.0)
    shifts = np.diag(step)
    slope = (score(totals + shifts) - score(totals - shifts)) / (2 * step)
    return np.asarray(np.where(np.isfinite(slope), slope, 0.0))


def _confusion(target: Array, probability: Array) -> Array:
    """Per clip: hits, truths and predictions of every class, [n_clips, 3 * n_classes]."""
    n_clips, n_classes = probability.shape
    truth, predicted = np.zeros((2, n_clips, n_classes))
    truth[np.arange(n_clips), _label_index(target)] = 1
    predicted[np.arange(n_clips), probability.argmax(axis=1)] = 1
    return np.concatenate([truth * predicted, truth, predicted], axis=1)


def _uar(totals: Array) -> Array:
    """Mean recall of the classes that occur."""
    hits, truths, _ = np.split(totals, 3, axis=-1)
    return _mean_ratio(hits, truths)


def _macro_f1(totals: Array) -> Array:
    """Mean F1 of the classes that occur or are predicted; 0 for one never hit."""
    hits, truths, predictions = np.split(totals, 3, axis=-1)
    either = truths + predictions
    return _mean_ratio(2 * hits, either)


def _mean_ratio(numerator: Array, denominator: Array) -> Array:
    """Mean over the last axis of the ratios whose denominator is not 0; NaN where all are."""
    some = denominator > 0
    ratio = np.where(some, numerator / np.where(some, denominator, 1.0), 0.0)
    n = some.sum(axis=-1)
    return np.asarray(np.where(n > 0, ratio.sum(axis=-1) / np.maximum(n, 1), np.nan))


def _uar_parts(counts: Array) -> Array:
    """Each clip's part of the seed-mean UAR: hit / (clips of its class * classes), [n_clips]."""
    hits, truths, _ = np.split(counts, 3, axis=-1)
    of_class = truths[0].sum(axis=0)
    weight = np.where(of_class > 0, 1 / np.maximum(of_class, 1), 0.0) / (of_class > 0).sum()
    return np.asarray(hits.mean(axis=0) @ weight)


_OF_CONFUSION: dict[str, ScoreOfCounts] = {"macro_f1": _macro_f1, "uar": _uar}


def _ranked(metric: str, seeds: Sequence[Seed]) -> FoldScore:
    pairs = [
        (multilabel(seed["target"], seed["probability"]), seed["probability"]) for seed in seeds
    ]
    present = float(np.mean(pairs[0][0].any(axis=0)))

    def resampled(weights: Array) -> Array:
        def one(pair: tuple[Array, Array]) -> Array:
            values = weighted(pair[0], pair[1], weights)
            score = macro(metric, values.average_precision, values.auc, present)
            return np.where(np.isfinite(score), score, np.nan)  # an infinite d' is undefined

        with ThreadPoolExecutor() as pool:  # the kernel lets go of the interpreter's lock
            return np.asarray(np.mean(list(pool.map(one, pairs)), axis=0))

    whole = np.ones((len(pairs[0][0]), 1), np.uint8)
    return FoldScore(None, resampled, float(resampled(whole)[0]))


def multilabel(target: Array, probability: Array) -> Array:
    """Return the target as bool [n_clips, n_labels]."""
    if target.ndim == 2:
        return target.astype(bool)
    hot = np.zeros(probability.shape, bool)
    hot[np.arange(len(target)), target] = True
    return hot


def macro(metric: str, precision: Array, auc: Array, present: float) -> Array:
    """Mean over labels [n] of a metric of ranks, from values [n_labels, n]; NaN where undefined.

    mAP counts a label without any positive clip as 0, as scikit-learn: `present` is the share of
    the labels that have one. A label that merely drew no positive (or no negative) in a resample is
    left out of it: it says nothing there.
    """
    if metric == "mAP":
        return _mean_of_known(precision) * present
    if metric == "aucroc":
        return _mean_of_known(auc)
    from scipy.special import ndtri

    return _mean_of_known(np.sqrt(2.0) * ndtri(auc))


def _mean_of_known(values: Array) -> Array:
    """Mean down the columns of what is not NaN; NaN where nothing is, or infinities cancel."""
    known = ~np.isnan(values)
    n = known.sum(axis=0)
    with np.errstate(invalid="ignore"):  # inf - inf
        total = np.where(known, values, 0.0).sum(axis=0)
    return np.asarray(np.where(n > 0, total / np.maximum(n, 1), np.nan))


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
