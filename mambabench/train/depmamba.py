"""Train DepMamba or TMeanNet on feature sequences and keep the best epoch on the validation set.

Source: the published training of DepMamba (Ye et al., ICASSP 2025): binary cross-entropy, Adam
without weight decay, no schedule, a fixed number of epochs, the weights of the epoch whose mean of
accuracy, precision, recall and F1 on the validation set is strictly the best so far.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from mambabench.benchmarks.depression.scores import (
    binary_scores,
    confusion,
    published_scores,
)
from mambabench.errors import DataError, ProtocolError, nearest_names
from mambabench.train.batches import Batch, Epochs
from mambabench.train.log import EpochRows
from mambabench.train.loop import Evaluation, Losses, Progress, Work, run_training
from mambabench.train.ranks import Ranks
from mambabench.train.rates import Constant
from mambabench.train.state import weights_of

__all__ = ["SELECTION", "DepMambaFit", "SplitLogits", "fit", "predict"]

Tensor = torch.Tensor
LogRow = dict[str, Any]

SELECTION = ("published", "auc", "balanced_acc", "f1", "loss")


class SplitLogits(NamedTuple):
    """Logits and labels of a split, [n] each, and the mean loss over its items."""

    logit: npt.NDArray[np.float32]
    label: npt.NDArray[np.int64]
    loss: float


@dataclass(frozen=True)
class DepMambaFit:
    """A finished training: the kept weights and what every epoch came to."""

    weights: dict[str, Tensor]
    best_epoch: int  # from 0
    history: tuple[LogRow, ...]  # per epoch: {"train": {...}, "val": {...}, "score": float}


def _objective(model: nn.Module, batch: Batch) -> Losses:
    """Cross-entropy of the logits; loss and accuracy are those before each step."""
    assert batch.targets is not None
    y = batch.targets.reshape(-1, 1).float()
    logit = model(batch.inputs, batch.draws["mask"])
    loss = F.binary_cross_entropy_with_logits(logit, y)
    if not torch.isfinite(loss):
        raise DataError(
            "the training loss is not finite: a sequence whose frames are all zero has no mean "
            "(published behaviour); mode 'masked' counts such frames"
        )
    return Losses(loss, {"acc": ((logit > 0) == (y == 1)).double().mean()})


@torch.no_grad()
def predict(model: nn.Module, batches: Iterable[Batch], device: str = "cpu") -> SplitLogits:
    """Return the logits of all batches in order; the model is left in evaluation mode."""
    model.eval()
    logits, labels, loss = [], [], 0.0
    for batch in batches:
        assert batch.targets is not None
        y = batch.targets.reshape(-1, 1).float()
        logit = model(batch.inputs.to(device), batch.draws["mask"].to(device)).cpu()
        loss += F.binary_cross_entropy_with_logits(logit, y).item() * len(y)
        logits.append(logit[:, 0])
        labels.append(batch.targets)
    logit, label = torch.cat(logits).numpy(), torch.cat(labels).numpy()
    return SplitLogits(logit, label, loss / len(label))


def _validate(result: SplitLogits, select: str) -> tuple[dict[str, float], float]:
    """Return the logged scores of the validation set and the one that selects."""
    published = published_scores(confusion(result.logit > 0, result.label))
    average = published.pop("selection_score")
    scores = {"loss": result.loss, **published}
    if select == "published":
        return scores, average
    if select == "loss":
        return scores, -result.loss
    return scores, binary_scores(result.logit, result.label)[select]


def fit(
    model: nn.Module,
    train: Epochs,
    valid: Callable[[], Iterable[Batch]],
    *,
    epochs: int,
    lr: float,
    select: str = "published",
    device: str = "cpu",
    folder: Path | None = None,
    log: Callable[[LogRow], None] | None = None,
) -> DepMambaFit:
    """Train `model` for `epochs`.

    What selects sees the validation set only. With `folder`, every finished epoch is saved there,
    and a run that was cut off continues after its last finished epoch with equal results.
    Raises ProtocolError for an unknown `select`, DataError where the loss is not finite.
    """
    if select not in SELECTION:
        raise ProtocolError(
            f"select must be one of {', '.join(SELECTION)}, not {select!r}"
            f"{nearest_names(select, SELECTION)}"
        )
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    kept = weights_of(model)  # the best so far

    def evaluate(progress: Progress, _ranks: Ranks) -> Evaluation:
        scores, score = _validate(predict(model, valid(), device), select)
        if score > (-math.inf if progress.best is None else progress.best):
            kept.update(weights_of(model))
        means = {name: progress.mean(name, "epoch") for name in ("loss", "acc")}
        row = {"epoch": progress.epoch - 1, "train": means, "val": scores, "score": score}
        return Evaluation(score, score, row)

    work = Work(
        model, optimiser, Constant(optimiser), _objective, train, epochs,
        device=device, evaluate=evaluate, kept=kept,
    )  # fmt: skip
    rows = EpochRows(log)
    progress = run_training(work, folder, Ranks(), save_seconds=math.inf, saved=rows)
    best = max(progress.best_step // train.steps_per_epoch - 1, 0)
    return DepMambaFit(dict(kept), best, tuple(rows.of(progress)))
