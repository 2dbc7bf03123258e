"""Score a head on validation rows: the one number that stops fits and chooses among them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from mambabench.benchmarks.metrics import METRICS
from mambabench.benchmarks.metrics.events import Events
from mambabench.benchmarks.metrics.frames import events_from_probabilities
from mambabench.benchmarks.metrics.metric import PerClip
from mambabench.benchmarks.task import Task
from mambabench.errors import ProtocolError, nearest_names
from mambabench.probe.protocols import post_processing_grid
from mambabench.probe.rows import SplitRows, ValidationRows

__all__ = ["Monitor", "Monitored", "PostProcessing", "chosen", "predicted_events", "probabilities"]

PostProcessing = tuple[float, float]  # median_filter_ms, min_duration_ms


@dataclass(frozen=True)
class Monitored:
    """One validation: the monitored value and, for events, the best post-processing."""

    value: float  # larger is better; NaN if undefined
    score: float  # as the metric (or the loss) gives it
    post_processing: PostProcessing | None = None
    tie: float = 0.0  # decides between equal values, larger is better; 0 under the kit's protocols


def probabilities(logits: torch.Tensor, multilabel: bool) -> npt.NDArray[np.float32]:
    """Return float32 [n, n_labels] of logits [n_labels, n]."""
    columns = torch.sigmoid(logits) if multilabel else torch.softmax(logits, 0)
    return np.ascontiguousarray(columns.numpy().T)


def predicted_events(
    rows: SplitRows, probability: npt.NDArray[np.float32], post_processing: PostProcessing
) -> Events:
    """Return the events of frame-wise probabilities [n_rows, n_labels]."""
    assert rows.timestamps_ms is not None
    return events_from_probabilities(
        probability,
        rows.timestamps_ms,
        rows.offsets,
        median_filter_ms=post_processing[0],
        min_duration_ms=post_processing[1],
    )


class Monitor:
    """The validation of one fold. It can only be made from validation rows."""

    def __init__(
        self, task: Task, rows: ValidationRows, *, multilabel: bool, kit: bool = False
    ) -> None:
        name = task.evaluation[0]
        if name not in METRICS:
            near = nearest_names(name, METRICS)
            raise ProtocolError(f"task {task.name}: no metric named {name!r}{near}")
        self._metric = METRICS[name]
        statistic = self._metric.statistic
        self._right = statistic.right if isinstance(statistic, PerClip) else None
        self._rows = rows
        self._multilabel = multilabel
        self._kit = kit
        self._on_loss = not task.use_scoring_for_early_stopping
        self._post = post_processing_grid(task) if rows.events is not None else ()
        if self._on_loss and len(self._post) > 1:
            raise ProtocolError(
                f"task {task.name} stops on the validation loss and has {len(self._post)} "
                "post-processing points; it may have one (event_postprocessing_grid)"
            )
        self._target = torch.from_numpy(np.ascontiguousarray(rows.targets))

    def __call__(self, logits: torch.Tensor) -> Monitored:
        """Score logits [n_labels, n_rows] of the validation rows.

        Outside the kit's protocols the lower loss decides between equal scores: a few dozen clips
        have few different scores, and the first of equals stops most fits too early.
        """
        seen = self._seen(logits)
        return seen if self._kit else replace(seen, tie=-self.loss(logits))

    def _seen(self, logits: torch.Tensor) -> Monitored:
        if self._on_loss:
            loss = self.loss(logits)
            return Monitored(-loss, loss, self._post[0] if self._post else None)
        if self._right is not None and not self._multilabel:
            if not bool(torch.isfinite(logits).all()):
                return Monitored(math.nan, math.nan)
            hits = self._right(self._rows.targets, logits.argmax(0).numpy()).sum()
            return self._oriented(int(hits) / len(self._rows.targets))
        return self.of_probabilities(probabilities(logits, self._multilabel))

    def of_probabilities(self, probability: npt.NDArray[np.float32]) -> Monitored:
        """Score probabilities [n_rows, n_labels] of the validation rows."""
        if self._post:
            return self._event_score(probability)
        return self._oriented(self._metric(self._rows.targets, probability))

    def _oriented(self, score: float, post: PostProcessing | None = None) -> Monitored:
        return Monitored(score if self._metric.higher_is_better else -score, score, post)

    def loss(self, logits: torch.Tensor) -> float:
        """Return the mean loss of logits [n_labels, n_rows]."""
        if self._multilabel:
            target = self._target.t().to(logits.dtype)
            return float(torch.nn.functional.binary_cross_entropy_with_logits(logits, target))
        return float(torch.nn.functional.cross_entropy(logits.t(), self._target))

    def _event_score(self, probability: npt.NDArray[np.float32]) -> Monitored:
        """Score every post-processing point; the best wins, the larger one among equals.

        hear-eval-kit counts an undefined score as 0 here, and takes the highest score even where a
        low one is better.
        """
        sign = 1.0 if self._metric.higher_is_better else -1.0
        rank_sign, undefined = (1.0, 0.0) if self._kit else (sign, -math.inf)

        def rank(scored: tuple[float, PostProcessing]) -> tuple[float, PostProcessing]:
            score, post = scored
            return (undefined if math.isnan(score) else rank_sign * score, post)

        score, post = max(((self._scored(probability, p), p) for p in self._post), key=rank)
        return self._oriented(score, post)

    def _scored(self, probability: npt.NDArray[np.float32], post: PostProcessing) -> float:
        assert self._rows.events is not None
        events = predicted_events(self._rows, probability, post)
        counts = self._metric.counts(self._rows.events, events)
        return float(self._metric.score(counts.sum(axis=0)))


def chosen(values: Sequence[float]) -> int:
    """Return the index of the largest value, the earliest of equals; NaN ranks worst."""
    ranked = [-math.inf if math.isnan(value) else value for value in values]
    return max(range(len(ranked)), key=lambda i: (ranked[i], -i))
