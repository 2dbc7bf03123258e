"""Error rates of what is read: phones, words and letters against their references."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = [
    "edit_distance",
    "edit_distance_of",
    "error_rate",
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
