"""Train DepMamba or TMeanNet on feature sequences and keep the best epoch on the validation set.

Source: the published training of DepMamba (Ye et al., ICASSP 2025): binary cross-entropy, Adam
without weight decay, no schedule, a fixed number of epochs, the weights of the epoch whose mean of
accuracy, precision, recall and F1 on the validation set is strictly the best so far.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
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
from mambabench.train.sequences import Batch
from mambabench.train.state import (
    load_tensors,
    optimiser_tensors,
    restore_optimiser,
    save_tensors,
    seeded,
    weights_of,
)

__all__ = ["SELECTION", "Fit", "Predictions", "fit", "predict"]

Tensor = torch.Tensor
Row = dict[str, Any]

SELECTION = ("published", "auc", "balanced_acc", "f1", "loss")


class Predictions(NamedTuple):
    """Logits and labels of a split, [n] each, and the mean loss over its items."""

    logit: npt.NDArray[np.float32]
    label: npt.NDArray[np.int64]
    loss: float


@dataclass(frozen=True)
class Fit:
    """A finished training: the kept weights and what every epoch came to."""

    weights: dict[str, Tensor]
    best_epoch: int  # from 0
    history: tuple[Row, ...]  # per epoch: {"train": {...}, "val": {...}, "score": float}


def _train_epoch(
    model: nn.Module, batches: Iterable[Batch], optimiser: torch.optim.Optimizer, device: str
) -> dict[str, float]:
    """One pass; loss and accuracy come from the logits before each step."""
    model.train()
    n, loss_sum, right = 0, 0.0, 0
    for batch in batches:
        y = batch.y.to(device).reshape(-1, 1).float()
        logit = model(batch.x.to(device), batch.mask.to(device))
        loss = F.binary_cross_entropy_with_logits(logit, y)
        if not torch.isfinite(loss):
            raise DataError(
                "the training loss is not finite: a sequence whose frames are all zero has no mean "
                "(published behaviour); mode 'masked' counts such frames"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad()
        n += len(y)
        loss_sum += loss.item() * len(y)
        right += int(((logit > 0) == (y == 1)).sum())
    return {"loss": loss_sum / n, "acc": right / n}


@torch.no_grad()
def predict(model: nn.Module, batches: Iterable[Batch], device: str = "cpu") -> Predictions:
    """Return the logits of all batches in order; the model is left in evaluation mode."""
    model.eval()
    logits, labels, loss = [], [], 0.0
    for batch in batches:
        y = batch.y.reshape(-1, 1).float()
        logit = model(batch.x.to(device), batch.mask.to(device)).cpu()
        loss += F.binary_cross_entropy_with_logits(logit, y).item() * len(y)
        logits.append(logit[:, 0])
        labels.append(batch.y)
    logit, label = torch.cat(logits).numpy(), torch.cat(labels).numpy()
    return Predictions(logit, label, loss / len(label))


def _validate(result: Predictions, select: str) -> tuple[dict[str, float], float]:
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
    train: Callable[[int], Iterable[Batch]],
    valid: Callable[[], Iterable[Batch]],
    *,
    epochs: int,
    lr: float,
    select: str = "published",
    seed: int = 0,
    device: str = "cpu",
    state: Path | None = None,
    log: Callable[[Row], None] | None = None,
) -> Fit:
    """Train `model` for `epochs`; `train(epoch)` gives that epoch's batches.

    What selects sees the validation set only. With `state`, every finished epoch is saved there,
    and a run that was cut off continues after its last finished epoch with equal results.
    Raises ProtocolError for an unknown `select`, DataError where the loss is not finite.
    """
    if select not in SELECTION:
        raise ProtocolError(
            f"select must be one of {', '.join(SELECTION)}, not {select!r}"
            f"{nearest_names(select, SELECTION)}"
        )
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    history: list[Row] = []
    best, best_epoch, best_score = weights_of(model), -1, -math.inf
    if state is not None and state.is_file():
        best, header = _restore(state, model, optimiser)
        history, best_epoch = header["history"], header["best_epoch"]
        best_score = history[best_epoch]["score"] if best_epoch >= 0 else -math.inf
    for row in history:
        _emit(log, row)
    for epoch in range(len(history), epochs):
        with seeded(seed, "epoch", epoch):
            train_scores = _train_epoch(model, train(epoch), optimiser, device)
        scores, score = _validate(predict(model, valid(), device), select)
        if score > best_score:
            best, best_epoch, best_score = weights_of(model), epoch, score
        history.append({"epoch": epoch, "train": train_scores, "val": scores, "score": score})
        if state is not None:
            _save(state, model, optimiser, best, {"history": history, "best_epoch": best_epoch})
        _emit(log, history[-1])
    return Fit(best, max(best_epoch, 0), tuple(history))


def _emit(log: Callable[[Row], None] | None, row: Row) -> None:
    if log is not None:
        log(row)


def _save(
    path: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    best: Mapping[str, Tensor],
    header: Row,
) -> None:
    tensors = {f"model.{k}": v for k, v in weights_of(model).items()}
    tensors |= {f"best.{k}": v for k, v in best.items()}
    tensors |= {f"optimiser.{k}": v for k, v in optimiser_tensors(optimiser).items()}
    save_tensors(path, tensors, header)


def _restore(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], Row]:
    tensors, header = load_tensors(path)

    def part(name: str) -> dict[str, Tensor]:
        start = f"{name}."
        return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}

    model.load_state_dict(part("model"))
    restore_optimiser(optimiser, part("optimiser"))
    return part("best"), header
