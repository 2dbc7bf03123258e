"""Regress a session's severity (PHQ-8) from stored embeddings: ridge on the session's mean.

Session-level because labels are: a session's clips share one score. The strength of the ridge is
chosen on the validation sessions; the test sessions are scored once. Scores: mean absolute error,
root mean squared error, and Lin's concordance (the primary score of AVEC 2019).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.affect import Affect
from mambabench.benchmarks.depression.scores import ccc
from mambabench.report.statistics.honest import cluster_draws, percentiles
from mambabench.store.embeddings import StoredTask
from mambabench.store.open import read_embeddings

__all__ = ["ALPHAS", "severity"]

Values = npt.NDArray[Any]

ALPHAS = tuple(10.0**k for k in range(-2, 6))


def _session_means(stored: StoredTask, affect: Affect, split: str) -> tuple[list[str], Values]:
    """Return (session names, mean embeddings [n_sessions, dim] float64) of a split."""
    found = read_embeddings(stored, split)
    rows: dict[str, list[Values]] = {}
    for i, clip in enumerate(found.clip_names):
        session = affect.session_of[f"{split}/{clip}"]
        part = found.embeddings[found.offsets[i] : found.offsets[i + 1], -1]
        rows.setdefault(session, []).append(np.asarray(part, np.float64).mean(0))
    names = sorted(rows)
    return names, np.stack([np.mean(rows[name], axis=0) for name in names])


def _ridge(x: Values, y: Values, alpha: float) -> Values:
    """Return weights with a trailing constant; features are centred and scaled by the caller."""
    gram = x @ x.T + alpha * np.eye(len(x))  # dual form: fewer sessions than features
    weights: Values = x.T @ np.linalg.solve(gram, y - y.mean())
    return np.append(weights, y.mean())


def _scores(pred: Values, true: Values) -> dict[str, float | None]:
    concordance = ccc(pred, true)
    return {
        "mae": float(np.mean(np.abs(pred - true))),
        "rmse": float(np.sqrt(np.mean((pred - true) ** 2))),
        "ccc": None if np.isnan(concordance) else concordance,
    }


def severity(stored: StoredTask, affect: Affect, n_resamples: int = 1000) -> dict[str, Any] | None:
    """Return the regression row of a stored task as JSON values; None where no scores are known."""
    if any(s.score is None for s in affect.sessions.values()):
        return None
    parts = {split: _session_means(stored, affect, split) for split in ("train", "valid", "test")}
    score = {
        split: np.array([affect.sessions[n].score for n in names], dtype=float)
        for split, (names, _) in parts.items()
    }
    centre, spread = parts["train"][1].mean(0), parts["train"][1].std(0)
    spread[spread == 0] = 1
    x = {split: (matrix - centre) / spread for split, (_, matrix) in parts.items()}
    fitted = {alpha: _ridge(x["train"], score["train"], alpha) for alpha in ALPHAS}

    def predict(weights: Values, split: str) -> Values:
        out: Values = x[split] @ weights[:-1] + weights[-1]
        return out

    def error(alpha: float) -> float:
        return float(np.mean((predict(fitted[alpha], "valid") - score["valid"]) ** 2))

    alpha = min(ALPHAS, key=error)
    pred, true = predict(fitted[alpha], "test"), score["test"]
    clusters = [affect.sessions[n].cluster for n in parts["test"][0]]
    drawn = []
    for counts in cluster_draws(clusters, n_resamples):
        rows = np.repeat(np.arange(len(true)), counts)
        drawn.append(_scores(pred[rows], true[rows]))
    intervals = {
        name: percentiles(np.array([one[name] or 0.0 for one in drawn]))
        for name in ("mae", "rmse", "ccc")
    }
    return {
        "n_sessions": len(true),
        "alpha": alpha,
        "selection": {"rule": "lowest mean squared error", "split": "valid"},
        "scores": _scores(pred, true),
        "intervals": {name: found and list(found) for name, found in intervals.items()},
        "trivial_mean": _scores(np.full(len(true), score["train"].mean()), true),
    }
