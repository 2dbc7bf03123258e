"""A fitted head of any family, and its scores on test rows: nothing here chooses anything."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mambabench.benchmarks.metrics import METRICS
from mambabench.benchmarks.metrics.events import label_counts, match_parts
from mambabench.benchmarks.task import Task
from mambabench.errors import ProtocolError, nearest_names
from mambabench.probe.heads.parameters import HeadParameters, padded_columns
from mambabench.probe.monitor import PostProcessing, predicted_events, probabilities
from mambabench.probe.rows import TestRows
from mambabench.probe.trainer import EVALUATED, Scaler
from mambabench.store.records import FoldResult

__all__ = ["Fitted", "FoldOutcome", "GridPoint", "HeadPredictor", "score_fold"]

GridPoint = dict[str, str | int | float | bool | None]


@dataclass(frozen=True)
class Fitted:
    """The winner of a fold: chosen, and not to be changed any more."""

    predict: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]  # rows -> probabilities
    grid_point: GridPoint
    validation_score: float
    head_sha256: str
    best_epoch: int | None = None
    n_epochs: int | None = None
    post_processing: PostProcessing | None = None
    n_train: int | None = None  # rows that it was fitted to
    batch_size: int | None = None  # rows of a step; None where there are no steps
    n_steps: int | None = None  # optimiser steps of the whole fit


@dataclass(frozen=True)
class FoldOutcome:
    """A fold's line in the record and its arrays in the predictions file."""

    result: FoldResult
    predictions: dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class HeadPredictor:
    """Probabilities [n, n_labels] of rows [n, dim] by a trained head."""

    parameters: HeadParameters
    scaler: Scaler | None
    multilabel: bool

    def __call__(self, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        parts = []
        for i in range(0, len(embeddings), EVALUATED):
            rows = embeddings[i : i + EVALUATED]
            scaled = rows if self.scaler is None else self.scaler(rows)
            columns = padded_columns(torch.from_numpy(np.array(scaled, np.float32)))
            parts.append(self.parameters.logits(columns)[:, : len(rows)])
        return probabilities(torch.cat(parts, 1), self.multilabel)


def score_fold(fitted: Fitted, rows: TestRows, task: Task) -> FoldOutcome:
    """Score a fitted head on test rows with every metric of the task."""
    probability = fitted.predict(rows.embeddings)
    point = dict(fitted.grid_point)
    arrays: dict[str, npt.NDArray[Any]] = {
        "clip": np.array(rows.clip_names, dtype=np.str_),
        "cluster": np.array(rows.clusters, dtype=np.str_),
    }
    if rows.events is None:
        scores = {
            name: _finite(_metric(name)(rows.targets, probability)) for name in task.evaluation
        }
        arrays |= {"target": rows.targets, "probability": probability}
    else:
        assert fitted.post_processing is not None
        median, minimum = fitted.post_processing
        point |= {"median_filter_ms": median, "min_duration_ms": minimum}
        scores = _score_events(rows, probability, task, fitted.post_processing, arrays)
    result = FoldResult(
        fold="",
        scores=scores,
        grid_point=point,
        validation_score=_finite(fitted.validation_score),
        best_epoch=fitted.best_epoch,
        n_epochs=fitted.n_epochs,
        n_test=len(rows.clip_names),
        head_sha256=fitted.head_sha256,
        n_train=fitted.n_train,
        batch_size=fitted.batch_size,
        n_steps=fitted.n_steps,
    )
    return FoldOutcome(result, arrays)


def _score_events(
    rows: TestRows,
    probability: npt.NDArray[np.float32],
    task: Task,
    post: PostProcessing,
    arrays: dict[str, npt.NDArray[Any]],
) -> dict[str, float | None]:
    """Return every metric and its parts ("<metric>_<part>"); add events and counts to `arrays`."""
    assert rows.events is not None
    events = predicted_events(rows, probability, post)
    arrays |= {
        "event_clip": events.clip,
        "event_label": events.label,
        "event_start_ms": events.start_ms,
        "event_end_ms": events.end_ms,
    }
    scores: dict[str, float | None] = {}
    for name in task.evaluation:
        metric = _metric(name)
        counts = metric.counts(rows.events, events)
        arrays[f"counts:{name}"] = counts
        if metric.statistic.parts is match_parts:
            by_label = label_counts(metric.counts, rows.events, events, len(task.labels))
            arrays[f"event_counts:{name}"] = by_label
        total = counts.sum(axis=0)
        scores[name] = _finite(float(metric.score(total)))
        for part, value in metric.parts(total).items():
            scores[f"{name}_{part}"] = _finite(float(value))
    return scores


def _metric(name: str) -> Any:
    if name not in METRICS:
        raise ProtocolError(f"no metric named {name!r}{nearest_names(name, METRICS)}")
    return METRICS[name]


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
