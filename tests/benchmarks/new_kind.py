"""All that a new kind of answer needs: the kind, its metric, a family of heads, a protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.kinds import Kind
from mambabench.benchmarks.metrics.metric import Counts, Metric
from mambabench.benchmarks.task import Fold
from mambabench.probe.families.folded import folded
from mambabench.probe.families.splits import Split, clip_arrays
from mambabench.probe.families.trials import Running, TrainedTrial, Trial
from mambabench.probe.fitted import FoldOutcome
from mambabench.probe.protocols import Protocol
from mambabench.store.embeddings import StoredTask
from mambabench.store.records import FoldResult

KIND = Kind("numbers", "a number, as text", own_metrics=True)
METRIC = Metric(
    "mean_error",
    "mean error",
    "numbers",
    higher_is_better=False,
    statistic=Counts(lambda sums: {"mean": sums[..., 0] / sums[..., 1]}, "mean"),
)


@dataclass(frozen=True)
class NumberFold:
    """The number of the training clip whose embedding is most alike."""

    stored: StoredTask
    fold: Fold

    @property
    def trials(self) -> Sequence[Trial]:
        return ()

    def rows(self, split: str) -> tuple[Split, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        part = Split(self.stored, split)
        found = np.asarray(part.embeddings.embeddings, np.float64).reshape(len(part.clips), -1)
        found -= found.mean(axis=1, keepdims=True)
        numbers = np.array([float(clip.labels[0]) for clip in part.clips])
        return part, found / np.linalg.norm(found, axis=1, keepdims=True), numbers

    def finish(self, trained: Sequence[TrainedTrial], running: Running) -> FoldOutcome:
        _, known, answers = self.rows(self.fold.train[0])
        part, asked, numbers = self.rows(self.fold.test)
        nearest = (asked @ known.T).argmax(axis=1)
        wrong = np.abs(answers[nearest] - numbers)
        counts = np.stack([wrong, np.ones_like(wrong)], axis=1)
        result = FoldResult(
            fold=self.fold.test,
            scores={METRIC.name: float(wrong.mean())},
            grid_point={},
            validation_score=None,
            best_epoch=None,
            n_epochs=None,
            n_test=len(wrong),
            head_sha256=None,
        )
        return FoldOutcome(result, clip_arrays(part.clips) | {f"counts:{METRIC.name}": counts})


steps = folded(lambda stored, protocol, seed, fold: NumberFold(stored, fold))
PROTOCOL = Protocol("most-alike", {"numbers": "new_kind:steps"}, seeded=False)
