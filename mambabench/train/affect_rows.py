"""The rows of an honest evaluation of depression and sentiment, and how one is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.benchmarks.sentiment.metrics import COLUMNS, NoNonZeroError, sentiment_scores
from mambabench.errors import DataError
from mambabench.report.statistics.honest import (
    cluster_draws,
    metadata_probe,
    percentiles,
    speaker_audit,
    summarise,
    trivial_rows,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mambabench.benchmarks.depression.sessions import Session

    Values = npt.NDArray[np.float32]

__all__ = ["DISCLAIMER", "SCHEMA", "Evaluated", "honest_row"]


SCHEMA = "mambabench.affect/1"


DISCLAIMER = "research measurement on a benchmark; not a diagnostic of any person"


AffectRow = dict[str, Any]


@dataclass(frozen=True)
class Evaluated:
    """The rows of an evaluation and the file they were written to."""

    rows: tuple[AffectRow, ...]
    files: tuple[Path, ...]


def honest_row(
    test: Sequence[Session],
    sessions: Sequence[Session],
    scores: Any,
    thresholds: Sequence[float],
    n_resamples: int,
) -> AffectRow:
    """Return a model's scores beside those of classifiers that listen to nothing.

    test: the sessions of `scores` [n_seeds, n_test], in order; sessions: those of all splits.
    """

    train = [s for s in sessions if s.split == "train"]
    if not train:
        raise DataError("no training sessions are known: the baselines need their labels")
    logits, fields = metadata_probe(train, test)
    probe = summarise(logits, test, n_resamples=n_resamples) if fields else None
    trivial = trivial_rows([s.label for s in train], [s.label for s in test])
    audit = speaker_audit(sessions)
    return {
        "result": summarise(scores, test, threshold=thresholds, n_resamples=n_resamples),
        "baselines": {
            **{name: {k: _number(v) for k, v in row.items()} for name, row in trivial.items()},
            "metadata_probe": {"fields": list(fields), "result": probe},
        },
        "audit": {"verdict": audit.verdict, "shared": audit.shared, "known": audit.known},
    }


def _number(value: float) -> float | None:
    return None if value != value else float(value)


def _sentiment(dataset: str, scores: Any, true: Any, sessions: Sequence[Session]) -> AffectRow:
    """Return the published columns: every seed, their mean, and intervals over videos."""
    import numpy as np

    columns = COLUMNS[dataset]
    per_seed = [sentiment_scores(row, true, dataset) for row in scores]
    drawn: list[list[float]] = []
    for counts in cluster_draws([s.cluster for s in sessions], 200):
        rows = np.repeat(np.arange(len(true)), counts)
        try:
            parts = [sentiment_scores(row[rows], true[rows], dataset) for row in scores]
        except NoNonZeroError:
            continue
        drawn.append([float(np.mean([part[c] for part in parts])) for c in columns])
    table = np.array(drawn).reshape(-1, len(columns))
    intervals = {}
    for i, column in enumerate(columns):
        found = percentiles(table[:, i])
        intervals[column] = None if found is None else list(found)
    mean = {c: _number(float(np.mean([row[c] for row in per_seed]))) for c in columns}
    return {
        "columns": list(columns),
        "published_columns": {
            "per_seed": [{c: _number(row[c]) for c in columns} for row in per_seed],
            "mean": mean,
            "intervals": intervals,
        },
    }
