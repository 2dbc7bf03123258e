"""Metrics of the frame-level tasks: error rates of what is read, equal error rate, term value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = [
    "edit_distance",
    "edit_distance_of",
    "equal_error_rate",
    "error_rate",
    "maximum_term_weighted_value",
    "pooled_rate",
]


def edit_distance(reference: Sequence[int], hypothesis: Sequence[int]) -> int:
    """Return the Levenshtein distance (substitutions, deletions, insertions cost one each).

    One row of the table at a time; the running minimum along a row is a prefix minimum, so each
    row is a handful of array operations.
    """
    ref = np.asarray(reference, dtype=np.int64)
    hyp = np.asarray(hypothesis, dtype=np.int64)
    columns = np.arange(len(hyp) + 1)
    row = columns.copy()
    for index, symbol in enumerate(ref, start=1):
        best = np.empty_like(row)
        best[0] = index
        best[1:] = np.minimum(row[1:] + 1, row[:-1] + (hyp != symbol))
        row = np.minimum.accumulate(best - columns) + columns
    return int(row[-1])


def edit_distance_of(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Return the Levenshtein distance of tokens, such as words or letters."""
    numbers: dict[str, int] = {}
    coded = [
        [numbers.setdefault(token, len(numbers)) for token in side]
        for side in (reference, hypothesis)
    ]
    return edit_distance(*coded)


def pooled_rate(references: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]]) -> float:
    """Return total errors / total reference length of tokens; 1 where the references are empty.

    Word error rate when the tokens are words, unit error rate when they are letters.
    """
    errors = sum(
        edit_distance_of(ref, hyp) for ref, hyp in zip(references, hypotheses, strict=True)
    )
    length = sum(len(ref) for ref in references)
    return errors / length if length else 1.0


def error_rate(
    references: Sequence[Sequence[int]], hypotheses: Sequence[Sequence[int]]
) -> tuple[float, npt.NDArray[np.int64]]:
    """Return total errors / total reference length, and [n_clips, 2] errors and lengths.

    NaN where the references are all empty. Phone error rate when the symbols are phones.
    """
    counts = np.array(
        [
            (edit_distance(ref, hyp), len(ref))
            for ref, hyp in zip(references, hypotheses, strict=True)
        ],
        dtype=np.int64,
    ).reshape(-1, 2)
    errors, length = counts.sum(axis=0)
    return (float(errors / length) if length else float("nan")), counts


def equal_error_rate(
    same: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]
) -> tuple[float, float]:
    """Return (EER as a fraction, threshold) of verification trials.

    The point where the false-acceptance rate equals the false-rejection rate on the piecewise
    linear ROC curve, as SUPERB's root finding on the interpolated curve gives. NaN where all trials
    are of one kind.
    """
    n_same = int(same.sum())
    n_other = len(same) - n_same
    if n_same == 0 or n_other == 0:
        return float("nan"), float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked, values = same[order], scores[order]
    last = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)  # ties are one step
    accepted_same = np.concatenate(([0.0], np.cumsum(ranked)[last] / n_same))
    accepted_other = np.concatenate(([0.0], np.cumsum(~ranked)[last] / n_other))
    gap = accepted_other - (1.0 - accepted_same)  # false acceptance minus false rejection, rising
    upper = int(np.argmax(gap >= 0))
    lower = max(upper - 1, 0)
    span = gap[upper] - gap[lower]
    share = 0.0 if span == 0 else -gap[lower] / span
    rate = accepted_other[lower] + share * (accepted_other[upper] - accepted_other[lower])
    return float(rate), float(values[last[max(upper - 1, 0)]])


def maximum_term_weighted_value(
    relevant: npt.NDArray[np.bool_],
    scores: npt.NDArray[np.float64],
    *,
    beta: float,
) -> float:
    """Return MTWV: the best 1 - mean over queries of (P_miss + beta P_false_alarm) over thresholds.

    `relevant`, `scores` are [n_queries, n_documents]; queries without a relevant document are left
    out, as in the official scorer. One global threshold. NaN where no query has one.
    """
    used = relevant.any(axis=1)
    relevant, scores = relevant[used], scores[used]
    if not len(relevant):
        return float("nan")
    n_true = relevant.sum(axis=1, keepdims=True)
    n_false = np.maximum(relevant.shape[1] - n_true, 1)
    gain = np.where(relevant, 1.0 / n_true, -beta / n_false).ravel() / len(relevant)
    order = np.argsort(-scores.ravel(), kind="stable")
    values = scores.ravel()[order]
    last = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)
    return float(max(0.0, np.cumsum(gain[order])[last].max()))
