"""What keeps a small binary test honest: trivial classifiers, a deaf probe, intervals.

Everything works on one value per session (a logit or a probability; higher means positive) and the
session's label; bootstraps resample clusters (speakers, videos), never single sessions of one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.depression.scores import binary_scores, confusion
from mambabench.benchmarks.depression.sessions import Session
from mambabench.errors import DataError
from mambabench.report.statistics.intervals import Interval

__all__ = [
    "METRICS",
    "Audit",
    "ValueWithInterval",
    "bootstrap",
    "cluster_draws",
    "metadata_probe",
    "percentiles",
    "speaker_audit",
    "summarise",
    "trivial_rows",
]

Values = npt.NDArray[Any]

METRICS = ("f1", "macro_f1", "balanced_acc", "auc", "acc", "precision", "recall")


@dataclass(frozen=True)
class ValueWithInterval:
    """A value with its 95 % bootstrap interval; None where it is undefined."""

    value: float | None
    interval: Interval | None

    @property
    def low(self) -> float | None:
        """The interval's lower end."""
        return None if self.interval is None else self.interval.low

    @property
    def high(self) -> float | None:
        """The interval's upper end."""
        return None if self.interval is None else self.interval.high


@dataclass(frozen=True)
class Audit:
    """Which speakers stand in two splits."""

    known: int  # sessions whose speaker is known
    total: int
    shared: dict[str, int]  # "train/test" -> speakers in both
    sessions_shared: dict[str, int]  # "train/test" -> sessions of the second split concerned

    @property
    def verdict(self) -> str:
        """One sentence for the table."""
        if self.known == 0:
            return "speakers unknown: overlap cannot be excluded"
        share = "" if self.known == self.total else f" ({self.known} of {self.total} known)"
        if not any(self.shared.values()):
            return f"no speaker in two splits{share}"
        worst = ", ".join(f"{n} in {pair}" for pair, n in self.shared.items() if n)
        return f"speakers in two splits: {worst}{share}"


def speaker_audit(sessions: Sequence[Session]) -> Audit:
    """Count the speakers that two splits share."""
    of_split: dict[str, set[str]] = {}
    for session in sessions:
        if session.speaker is not None:
            of_split.setdefault(session.split, set()).add(session.speaker)
    pairs = (("train", "valid"), ("train", "test"), ("valid", "test"))
    shared: dict[str, int] = {}
    concerned: dict[str, int] = {}
    for a, b in pairs:
        both = of_split.get(a, set()) & of_split.get(b, set())
        shared[f"{a}/{b}"] = len(both)
        concerned[f"{a}/{b}"] = sum(s.split == b and s.speaker in both for s in sessions)
    known = sum(s.speaker is not None for s in sessions)
    return Audit(known, len(sessions), shared, concerned)


def trivial_rows(train: Sequence[int], test: Sequence[int]) -> dict[str, dict[str, float]]:
    """Return the scores of the classifiers that look at nothing.

    `majority` follows the training labels; `always_positive` is the one that a high F1 has to beat.
    """
    label = np.asarray(test)
    positive, negative = np.ones(len(label)), -np.ones(len(label))
    majority = positive if np.mean(train) >= 0.5 else negative
    return {
        "always_positive": binary_scores(positive, label),
        "always_negative": binary_scores(negative, label),
        "majority": binary_scores(majority, label),
    }


def _metadata_features(sessions: Sequence[Session]) -> tuple[Values, tuple[str, ...]]:
    columns: list[Values] = []
    names: list[str] = []
    if all(s.duration_s is not None for s in sessions):
        columns.append(np.array([math.log(max(s.duration_s or 0.0, 1e-3)) for s in sessions]))
        names.append("duration")
    if all(s.gender is not None for s in sessions):
        columns.append(np.array([float(s.gender == "f") for s in sessions]))
        names.append("gender")
    matrix = np.stack(columns, 1) if columns else np.zeros((len(sessions), 0))
    return matrix, tuple(names)


def metadata_probe(
    train: Sequence[Session], test: Sequence[Session]
) -> tuple[Values, tuple[str, ...]]:
    """Return (logits [n_test], names of the fields): logistic regression on metadata only.

    Fields are the logarithm of the duration and the gender, where every session has them. An empty
    tuple of names means that there is nothing to probe.
    """
    from sklearn.linear_model import LogisticRegression

    both, names = _metadata_features((*train, *test))
    labels = np.array([s.label for s in train])
    if not names or len(set(labels.tolist())) < 2:
        return np.zeros(len(test)), ()
    fit_on, score_on = both[: len(train)], both[len(train) :]
    centre, spread = fit_on.mean(0), fit_on.std(0)
    spread[spread == 0] = 1
    model = LogisticRegression().fit((fit_on - centre) / spread, labels)
    logits: Values = model.decision_function((score_on - centre) / spread)
    return logits, names


def bootstrap(
    scores: Values,
    label: Values,
    clusters: Sequence[str],
    *,
    threshold: float = 0.0,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, ValueWithInterval]:
    """Return every metric, averaged over the rows of `scores`, with its percentile interval.

    scores: [n_seeds, n_sessions]; label: [n_sessions]; clusters are drawn with replacement and the
    same draw serves all seeds. Resamples in which a metric is undefined are left out of it.
    """
    scores, label = np.atleast_2d(scores), np.asarray(label)
    if scores.shape[1] != len(label) or len(label) != len(clusters):
        raise DataError(f"{scores.shape[1]} scores, {len(label)} labels, {len(clusters)} clusters")
    weights = cluster_draws(clusters, n_resamples, seed).astype(float)
    point = [binary_scores(row, label, threshold) for row in scores]
    drawn = [_weighted_scores(row, label, weights, threshold) for row in scores]
    out = {}
    for name in METRICS:
        samples = np.mean([d[name] for d in drawn], axis=0)
        value = float(np.mean([p[name] for p in point]))
        out[name] = ValueWithInterval(_defined(value), percentiles(samples))
    return out


def cluster_draws(clusters: Sequence[str], n_resamples: int, seed: int = 0) -> Values:
    """Return how often each item is drawn, int64 [n_resamples, n_items].

    Clusters are drawn with replacement, as many as there are; items of one cluster go together.
    """
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_resamples)
    return draws[:, index]


def percentiles(samples: Values) -> Interval | None:
    """Return the 95 % percentile interval of those that are defined; None where none is."""
    samples = np.asarray(samples, float)
    samples = samples[~np.isnan(samples)]
    if not len(samples):
        return None
    low, high = np.percentile(samples, (2.5, 97.5))
    return Interval(float(low), float(high))


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _weighted_scores(
    score: Values, label: Values, weights: Values, threshold: float
) -> dict[str, Values]:
    """Return every metric of every resample at once, [n_resamples] each; NaN where undefined."""
    predicted, positive = score > threshold, label == 1
    tp, fp = weights @ (predicted & positive), weights @ (predicted & ~positive)
    tn, fn = weights @ (~predicted & ~positive), weights @ (~predicted & positive)
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity, specificity = tp / (tp + fn), tn / (tn + fp)
        precision = np.where(tp + fp > 0, tp / (tp + fp), 0)
        f1 = np.where(tp > 0, 2 * tp / (2 * tp + fp + fn), 0)
        negative = np.where(tn > 0, 2 * tn / (2 * tn + fp + fn), 0)
        return {
            "acc": (tp + tn) / weights.sum(1),
            "precision": precision,
            "recall": np.where(tp + fn > 0, sensitivity, 0),
            "f1": f1,
            "macro_f1": (f1 + negative) / 2,
            "balanced_acc": (sensitivity + specificity) / 2,
            "auc": _weighted_auc(score, positive, weights),
        }


def _weighted_auc(score: Values, positive: Values, weights: Values) -> Values:
    """Return the AUC of every resample: per tied group, the negatives below and half within."""
    if np.isnan(score).any():
        return np.full(len(weights), np.nan)
    _, group = np.unique(score, return_inverse=True)
    onto = np.zeros((len(score), int(group.max()) + 1))
    onto[np.arange(len(score)), group] = 1
    up, down = (weights * positive) @ onto, (weights * ~positive) @ onto
    below = np.cumsum(down, axis=1) - down / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        area: Values = (up * below).sum(1) / (up.sum(1) * down.sum(1))
    return area


def summarise(
    scores: Values,
    sessions: Sequence[Session],
    *,
    threshold: float | Sequence[float] = 0.0,
    n_resamples: int = 1000,
) -> dict[str, Any]:
    """Return one row as JSON values: intervals, per-seed scores, confusion counts, genders.

    scores: [n_seeds, n_sessions]. A threshold per seed is taken off its scores first.
    """
    scores = np.atleast_2d(scores) - np.reshape(np.asarray(threshold, float), (-1, 1))
    label = np.array([s.label for s in sessions])
    clusters = [s.cluster for s in sessions]
    row: dict[str, Any] = {
        "n_sessions": len(sessions),
        "n_positive": int(label.sum()),
        "n_clusters": len(set(clusters)),
        "n_seeds": len(scores),
        "metrics": _plain(bootstrap(scores, label, clusters, n_resamples=n_resamples)),
        "per_seed": [_finite(binary_scores(seed, label)) for seed in scores],
        "confusion": [vars(confusion(seed > 0, label)) for seed in scores],
        "genders": {},
    }
    for gender in sorted({s.gender for s in sessions if s.gender is not None}):
        keep = np.array([s.gender == gender for s in sessions])
        part = bootstrap(
            scores[:, keep],
            label[keep],
            [c for c, k in zip(clusters, keep, strict=True) if k],
            n_resamples=n_resamples,
        )
        row["genders"][gender] = {
            "n_sessions": int(keep.sum()),
            "n_positive": int(label[keep].sum()),
            "metrics": _plain(part),
        }
    return row


def _plain(intervals: Mapping[str, ValueWithInterval]) -> dict[str, dict[str, float | None]]:
    return {
        name: {"value": one.value, "low": one.low, "high": one.high}
        for name, one in intervals.items()
    }


def _finite(scores: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _defined(value) for name, value in scores.items()}
