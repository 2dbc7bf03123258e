"""Evaluate a classifier while it trains, in the authors' columns, and choose its best epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mambabench.train.batches import Batch
from mambabench.train.loop import DTYPES, Evaluation, Progress
from mambabench.train.objectives import classifier_loss
from mambabench.train.ranks import Ranks
from mambabench.train.scores import classifier_scores, per_second_scores

__all__ = ["Judge", "Judged", "Predictions", "Validation", "predict"]

Array = npt.NDArray[Any]
CUMULATIVE = "cumulative"  # key of the running mean of predictions in a run's kept tensors


class Validation(Protocol):
    """Clips to evaluate on, in blocks that are batches."""

    @property
    def n_clips(self) -> int:
        """How many clips there are."""

    @property
    def n_blocks(self) -> int:
        """How many batches they make."""

    def blocks(self, ranks: Ranks) -> Iterator[tuple[int, slice, Batch]]:
        """Yield (block, its clips, batch) for the blocks of this rank."""


class Predictions(NamedTuple):
    """What the model says of every validation clip, each counted once."""

    outputs: Array  # logits [n, classes] or [n, seconds, classes] float32
    targets: Array  # [n, classes], or class ids [n, seconds]
    sigmoid_losses: Array  # per block, of the sigmoids, as the authors do
    logit_loss: float  # mean over clips


def predict(
    model: nn.Module,
    validation: Validation,
    ranks: Ranks,
    *,
    loss: str,
    device: str = "cpu",
    precision: str = "fp32",
) -> Predictions:
    """Run the model over all blocks, shared out among the ranks; no clip counts twice."""
    outputs: torch.Tensor | None = None
    targets = torch.zeros(0)
    losses = np.zeros(validation.n_blocks)
    total = 0.0
    dtype = DTYPES.get(precision)
    for block, rows, batch in validation.blocks(ranks):
        on_device = batch.to(device)
        kind = device.partition(":")[0]
        with torch.autocast(kind, dtype=dtype, enabled=dtype is not None):
            logits = model(on_device.inputs)
        logits = logits.float()
        assert on_device.targets is not None
        if outputs is None:
            outputs = torch.zeros(validation.n_clips, *logits.shape[1:])
            targets = torch.zeros(validation.n_clips, *on_device.targets.shape[1:])
        outputs[rows], targets[rows] = logits.cpu(), on_device.targets.cpu().float()
        probabilities = torch.sigmoid(logits)
        losses[block] = float(classifier_loss(probabilities, on_device.targets, loss))
        total += float(classifier_loss(logits, on_device.targets, loss, soft=True)) * len(batch)
    if ranks.world > 1:
        outputs, targets = _shared(outputs, targets, ranks, device)
        losses = np.array(ranks.total(losses.tolist(), device))
        total = ranks.total([total], device)[0]
    assert outputs is not None
    return Predictions(outputs.numpy(), targets.numpy(), losses, total / validation.n_clips)


def _shared(
    outputs: torch.Tensor | None, targets: torch.Tensor, ranks: Ranks, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add up the ranks' rows; a rank without a block learns the shapes from the first."""
    shapes = [list(outputs.shape), list(targets.shape)] if outputs is not None else None
    shapes = ranks.from_first(shapes)
    assert shapes is not None
    if outputs is None:
        outputs, targets = torch.zeros(shapes[0]), torch.zeros(shapes[1])
    summed = [ranks.total_array(t.to(device)).cpu() for t in (outputs, targets)]
    return summed[0], summed[1]


class Judged(NamedTuple):
    """The scores of one evaluation."""

    main: float
    row: dict[str, Any]
    probabilities: Array
    targets: Array


@dataclass
class Judge:
    """Scores a model on `validation` after an epoch and keeps what the authors keep.

    `columns` 10: with the running mean of all epochs' predictions (SSAMBA); 8: without (AuM).
    The validation loss is on the sigmoids, as published, or with `sound` on the logits.
    """

    model: nn.Module
    validation: Validation
    loss: str
    metric: str  # acc or mAP
    columns: int = 10
    sound: bool = False
    device: str = "cpu"
    precision: str = "fp32"
    kept: dict[str, torch.Tensor] = field(default_factory=dict)
    latest: Judged | None = None
    predict: Callable[..., Predictions] = field(default=predict, repr=False)

    def score(self, ranks: Ranks) -> Judged:
        """Return scores and predictions of the model as it is."""
        found = self.predict(
            self.model,
            self.validation,
            ranks,
            loss=self.loss,
            device=self.device,
            precision=self.precision,
        )
        valid = found.logit_loss if self.sound else float(found.sigmoid_losses.mean())
        if found.targets.ndim < found.outputs.ndim:
            accuracy, mean_ap = per_second_scores(found.outputs, found.targets)
            main = accuracy if self.metric == "acc" else mean_ap
            row = {"main": main, "acc": accuracy, "mAP": mean_ap, "valid_loss": valid}
            return Judged(main, row, found.outputs, found.targets)
        probabilities = torch.sigmoid(torch.from_numpy(found.outputs)).numpy()
        got = classifier_scores(probabilities, found.targets)
        row = {
            "main": got.main(self.metric),
            "auc": got.mean_auc,
            "middle_precision": got.middle_precision,
            "middle_recall": got.middle_recall,
            "d_prime": got.d_prime,
            "valid_loss": valid,
            "acc": got.accuracy,
            "mAP": got.mean_ap,
            "left_out_classes": got.n_left_out,
        }
        return Judged(got.main(self.metric), row, probabilities, found.targets)

    def __call__(self, progress: Progress, ranks: Ranks) -> Evaluation:
        """Evaluate after an epoch."""
        self.latest = judged = self.score(ranks)
        row = {"train_loss": progress.mean("loss", "epoch"), **judged.row}
        if self.columns == 10 and judged.targets.ndim == judged.probabilities.ndim:
            mean = self._running_mean(judged.probabilities, len(progress.history) + 1)
            got = classifier_scores(mean, judged.targets)
            row |= {"cumulative": got.main(self.metric), "cumulative_auc": got.mean_auc}
        return Evaluation(judged.main, judged.main, row)

    def _running_mean(self, probabilities: Array, epoch: int) -> Array:
        new = torch.from_numpy(probabilities.astype(np.float64))
        if epoch > 1:
            new = (self.kept[CUMULATIVE] * (epoch - 1) + new) / epoch
        self.kept[CUMULATIVE] = new
        return new.numpy()
