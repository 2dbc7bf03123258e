"""Train MMML's fusion networks: the multi-loss over M, T and A, and both of its selection rules.

Source: the published training of MMML (Wu et al., NAACL 2024): the sum of L1 losses, AdamW created
anew in every epoch, early stopping on the validation loss. Two sets of weights are kept: the lowest
validation loss and the highest validation accuracy; which of them counts is declared before the
test set is read.
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

from mambabench.benchmarks.sentiment.metrics import sentiment_scores
from mambabench.errors import DataError
from mambabench.models.affect.mmml import FusionOutput
from mambabench.train.state import load_tensors, save_tensors, seeded, weights_of

__all__ = ["ACCURACY", "Fit", "FusionBatch", "Rules", "fit", "predict", "score"]

Tensor = torch.Tensor
Row = dict[str, Any]
Forward = Callable[[nn.Module, Any], FusionOutput]

ACCURACY = {"mosi": "Has0_acc_2", "mosei": "Has0_acc_2", "sims": "Mult_acc_2"}


class FusionBatch(NamedTuple):
    """Inputs as the model's `forward` takes them, and targets M, T, A, [batch] float32 each."""

    inputs: Any
    targets: Mapping[str, Tensor]


@dataclass(frozen=True)
class Rules:
    """How a fusion network learns; the defaults are those published for CMU-MOSI."""

    dataset: str = "mosi"
    tasks: str = "MTA"  # heads in the loss; the first one is scored
    loss: str = "L1"  # or MSE, as in the published audio experiments
    lr: float = 5e-6
    weight_decay: float = 0.01
    early_stop: int = 8  # epochs without a lower validation loss
    max_epochs: int | None = None  # the published setting of 20 was never read
    one_optimiser: bool = False  # keep AdamW's moments over epochs, unlike the published code


@dataclass(frozen=True)
class Fit:
    """A finished training: the weights of both rules and what every epoch came to."""

    by_loss: dict[str, Tensor]
    by_accuracy: dict[str, Tensor]
    best_loss_epoch: int  # from 0
    best_accuracy_epoch: int
    history: tuple[Row, ...]  # per epoch: {"train": {"Loss"}, "val": {...}}


def _losses(output: FusionOutput, targets: Mapping[str, Tensor], rules: Rules) -> Tensor:
    criterion = F.l1_loss if rules.loss == "L1" else F.mse_loss
    parts = [
        criterion(getattr(output, head).reshape(-1), targets[head].to(output.M.device))
        for head in rules.tasks
    ]
    return torch.stack(parts).sum()


def _train_epoch(
    model: nn.Module,
    batches: Iterable[FusionBatch],
    optimiser: torch.optim.Optimizer,
    rules: Rules,
    forward: Forward,
) -> float:
    model.train()
    total, n = 0.0, 0
    for batch in batches:
        optimiser.zero_grad()
        loss = _losses(forward(model, batch.inputs), batch.targets, rules)
        if not torch.isfinite(loss):
            raise DataError("the training loss is not finite; look for NaN in the stored features")
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        size = len(batch.targets["M"])
        total, n = total + loss.item() * size, n + size
    return total / n


@torch.no_grad()
def predict(
    model: nn.Module, batches: Iterable[FusionBatch], rules: Rules, forward: Forward
) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, npt.NDArray[np.float32]], float]:
    """Return (predictions by head, targets by head, mean loss over items), items in order."""
    model.eval()
    outputs: list[FusionOutput] = []
    targets: list[Mapping[str, Tensor]] = []
    total, n = 0.0, 0
    for batch in batches:
        output = forward(model, batch.inputs)
        size = len(batch.targets["M"])
        total, n = total + _losses(output, batch.targets, rules).item() * size, n + size
        outputs.append(FusionOutput(*(part.reshape(-1).cpu() for part in output)))
        targets.append(batch.targets)
    predicted = {h: torch.cat([getattr(o, h) for o in outputs]).numpy() for h in "MTA"}
    wanted = {h: torch.cat([t[h] for t in targets]).numpy() for h in "MTA"}
    return predicted, wanted, total / n


def score(
    model: nn.Module, batches: Iterable[FusionBatch], rules: Rules, forward: Forward
) -> dict[str, float]:
    """Return the dataset's scores of the first head and the loss, rounded to four decimals."""
    predicted, wanted, loss = predict(model, batches, rules, forward)
    head = rules.tasks[0]
    return {
        **sentiment_scores(predicted[head], wanted[head], rules.dataset),
        "Loss": round(loss, 4),
    }


def call(model: nn.Module, inputs: Any) -> FusionOutput:
    """Call a fusion network on a tuple of modalities."""
    output: FusionOutput = model(*inputs)
    return output


@dataclass
class _Progress:
    history: list[Row]
    by_loss: dict[str, Tensor]
    by_accuracy: dict[str, Tensor]
    loss_epoch: int = -1
    accuracy_epoch: int = -1
    lowest: float = math.inf
    highest: float = -math.inf

    def take(self, model: nn.Module, row: Row, accuracy: float) -> None:
        epoch, loss = row["epoch"], row["val"]["Loss"]
        if loss < self.lowest:
            self.lowest, self.loss_epoch, self.by_loss = loss, epoch, weights_of(model)
        if accuracy >= self.highest:
            self.highest, self.accuracy_epoch = accuracy, epoch
            self.by_accuracy = weights_of(model)
        self.history.append(row)


def fit(
    model: nn.Module,
    train: Callable[[int], Iterable[FusionBatch]],
    valid: Callable[[], Iterable[FusionBatch]],
    rules: Rules,
    *,
    seed: int = 0,
    forward: Forward = call,
    state: Path | None = None,
    log: Callable[[Row], None] | None = None,
) -> Fit:
    """Train until the validation loss has not fallen for `rules.early_stop` epochs.

    `train(epoch)` gives that epoch's batches; selection sees the validation set only. With `state`,
    every finished epoch is saved there, and a run that was cut off continues with equal results.
    """
    progress = _restore(state, model)
    for row in progress.history:
        _emit(log, row)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser: torch.optim.Optimizer | None = None
    while not _finished(progress, rules):
        epoch = len(progress.history)
        if optimiser is None or not rules.one_optimiser:
            optimiser = torch.optim.AdamW(parameters, lr=rules.lr, weight_decay=rules.weight_decay)
        with seeded(seed, "epoch", epoch):
            loss = _train_epoch(model, train(epoch), optimiser, rules, forward)
        scores = score(model, valid(), rules, forward)
        row = {"epoch": epoch, "train": {"Loss": round(loss, 4)}, "val": scores}
        progress.take(model, row, scores[ACCURACY[rules.dataset]])
        if state is not None and not rules.one_optimiser:
            _save(state, model, progress)
        _emit(log, row)
    return Fit(
        progress.by_loss,
        progress.by_accuracy,
        progress.loss_epoch,
        progress.accuracy_epoch,
        tuple(progress.history),
    )


def _finished(progress: _Progress, rules: Rules) -> bool:
    done = len(progress.history)
    if rules.max_epochs is not None and done >= rules.max_epochs:
        return True
    return done > 0 and done - 1 - progress.loss_epoch >= rules.early_stop


def _emit(log: Callable[[Row], None] | None, row: Row) -> None:
    if log is not None:
        log(row)


def _save(path: Path, model: nn.Module, progress: _Progress) -> None:
    parts = {
        "model": weights_of(model),
        "by_loss": progress.by_loss,
        "by_accuracy": progress.by_accuracy,
    }
    tensors = {f"{name}.{k}": v for name, part in parts.items() for k, v in part.items()}
    header = {
        "history": progress.history,
        "loss_epoch": progress.loss_epoch,
        "accuracy_epoch": progress.accuracy_epoch,
        "lowest": progress.lowest,
        "highest": progress.highest,
    }
    save_tensors(path, tensors, header)


def _restore(path: Path | None, model: nn.Module) -> _Progress:
    start = weights_of(model)
    if path is None or not path.is_file():
        return _Progress([], start, start)
    tensors, header = load_tensors(path)
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "by_loss": {}, "by_accuracy": {}}
    for key, value in tensors.items():
        name, _, rest = key.partition(".")
        parts[name][rest] = value
    model.load_state_dict(parts.pop("model"))
    return _Progress(
        header["history"],
        parts["by_loss"],
        parts["by_accuracy"],
        header["loss_epoch"],
        header["accuracy_epoch"],
        header["lowest"],
        header["highest"],
    )
