"""Queries sought in documents by subsequence DTW, without training: QbE and its like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.kinds.queries import RELEVANCE
from mambabench.benchmarks.metrics.mtwv import TERM_BETA, maximum_term_weighted_value
from mambabench.benchmarks.task import Fold
from mambabench.probe.families.folded import folded
from mambabench.probe.families.splits import Split, clip_arrays, relation_rows
from mambabench.probe.families.trials import Running, TrainedTrial, Trial
from mambabench.probe.fitted import FoldOutcome
from mambabench.probe.heads import query_search
from mambabench.probe.protocols import Protocol
from mambabench.store.embeddings import StoredTask
from mambabench.store.records import FoldResult

__all__ = ["QueryFold", "plan_fold", "steps"]


def plan_fold(stored: StoredTask, protocol: Protocol, seed: int, fold: Fold) -> QueryFold:
    """Plan the one search of the task."""
    return QueryFold(stored)


@dataclass(frozen=True)
class QueryFold:
    """One search: the layer with the best term value on validation queries is tested."""

    stored: StoredTask

    @property
    def trials(self) -> Sequence[Trial]:
        """Return nothing: a search trains nothing."""
        return ()

    def finish(self, trained: Sequence[TrainedTrial], running: Running) -> FoldOutcome:
        """Choose the layer and search the test queries with it."""
        documents = Split(self.stored, "documents")
        valid = Split(self.stored, "valid")
        truth = self._relevant(valid, documents)
        n_layers = documents.embeddings.embeddings.shape[1]
        values = [
            maximum_term_weighted_value(
                truth, _layer_scores(documents, valid, layer), beta=TERM_BETA
            )
            for layer in range(n_layers)
        ]
        best = int(np.nanargmax(values))
        tested = Split(self.stored, "test")
        scores = _layer_scores(documents, tested, best)
        relevant = self._relevant(tested, documents)
        metric = self.stored.task.evaluation[0]
        result = FoldResult(
            fold="test",
            scores={metric: maximum_term_weighted_value(relevant, scores, beta=TERM_BETA)},
            grid_point={"layer": best, "selected_on": "validation"},
            validation_score=values[best],
            best_epoch=None,
            n_epochs=None,
            n_test=len(tested.clips),
            head_sha256=None,
        )
        arrays = clip_arrays(tested.clips) | {"query_score": scores, "query_relevant": relevant}
        return FoldOutcome(result, arrays)

    def _relevant(self, queries: Split, documents: Split) -> npt.NDArray[np.bool_]:
        """Return which documents hold which query, [n_queries, n_documents]."""
        pairs = {
            (row["query"], row["document"])
            for row in relation_rows(self.stored, RELEVANCE)
            if row["split"] == queries.split
        }
        return np.array(
            [[(q.name, d.name) in pairs for d in documents.clips] for q in queries.clips]
        )


def _layer_scores(documents: Split, queries: Split, layer: int) -> npt.NDArray[np.float64]:
    """Return standardised scores [n_queries, n_documents] of one layer."""
    sought = [f[:, layer].astype(np.float64) for f in documents.frames()]
    asked = [f[:, layer].astype(np.float64) for f in queries.frames()]
    everything = np.concatenate(sought + asked)
    mean, deviation = everything.mean(axis=0), everything.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    ready = [(document - mean) / deviation for document in sought]
    raw = np.stack(
        [query_search.query_scores((query - mean) / deviation, ready) for query in asked]
    )
    return query_search.z_normalise(raw)


steps = folded(plan_fold)
