"""Train MMML's fusion networks: the multi-loss over M, T and A, and both of its selection rules.

Source: the published training of MMML (Wu et al., NAACL 2024): the sum of L1 losses, AdamW created
anew in every epoch, early stopping on the validation loss. Two sets of weights are kept: the lowest
validation loss and the highest validation accuracy; which of them counts is declared before the
test set is read.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from mambabench.train.batches import Batch, Epochs
from mambabench.train.log import EpochRows
from mambabench.train.loop import Evaluation, Losses, Progress, Work, run_training
from mambabench.train.ranks import Ranks
from mambabench.train.rates import Constant
from mambabench.train.state import weights_of

__all__ = ["ACCURACY", "MmmlFit", "Rules", "fit", "fusion_batch", "predict", "score"]

Tensor = torch.Tensor
LogRow = dict[str, Any]
Forward = Callable[[nn.Module, Any], FusionOutput]

ACCURACY = {"mosi": "Has0_acc_2", "mosei": "Has0_acc_2", "sims": "Mult_acc_2"}


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
class MmmlFit:
    """A finished training: the weights of both rules and what every epoch came to."""

    by_loss: dict[str, Tensor]
    by_accuracy: dict[str, Tensor]
    best_loss_epoch: int  # from 0
    best_accuracy_epoch: int
    history: tuple[LogRow, ...]  # per epoch: {"train": {"Loss"}, "val": {...}}


def _losses(output: FusionOutput, batch: Batch, rules: Rules) -> Tensor:
    criterion = F.l1_loss if rules.loss == "L1" else F.mse_loss
    parts = [
        criterion(getattr(output, head).reshape(-1), batch.draws[head].to(output.M.device))
        for head in rules.tasks
    ]
    return torch.stack(parts).sum()


def _objective(rules: Rules, forward: Forward) -> Callable[[nn.Module, Batch], Losses]:
    def objective(model: nn.Module, batch: Batch) -> Losses:
        loss = _losses(forward(model, batch.inputs), batch, rules)
        if not torch.isfinite(loss):
            raise DataError("the training loss is not finite; look for NaN in the stored features")
        return Losses(loss, {})

    return objective


def fusion_batch(inputs: Any, targets: Mapping[str, Tensor]) -> Batch:
    """Return inputs as the model's `forward` takes them with the targets of M, T and A.

    Targets are [batch] float32 each.
    """
    return Batch(inputs, targets["M"], dict(targets))


@torch.no_grad()
def predict(
    model: nn.Module, batches: Iterable[Batch], rules: Rules, forward: Forward
) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, npt.NDArray[np.float32]], float]:
    """Return (predictions by head, targets by head, mean loss over items), items in order."""
    model.eval()
    outputs: list[FusionOutput] = []
    targets: list[Mapping[str, Tensor]] = []
    total, n = 0.0, 0
    for batch in batches:
        output = forward(model, batch.inputs)
        size = len(batch)
        total, n = total + _losses(output, batch, rules).item() * size, n + size
        outputs.append(FusionOutput(*(part.reshape(-1).cpu() for part in output)))
        targets.append(batch.draws)
    predicted = {h: torch.cat([getattr(o, h) for o in outputs]).numpy() for h in "MTA"}
    wanted = {h: torch.cat([t[h] for t in targets]).numpy() for h in "MTA"}
    return predicted, wanted, total / n


def score(
    model: nn.Module, batches: Iterable[Batch], rules: Rules, forward: Forward
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


def fit(
    model: nn.Module,
    train: Epochs,
    valid: Callable[[], Iterable[Batch]],
    rules: Rules,
    *,
    forward: Forward = call,
    device: str = "cpu",
    folder: Path | None = None,
    log: Callable[[LogRow], None] | None = None,
) -> MmmlFit:
    """Train until the validation loss has not fallen for `rules.early_stop` epochs.

    Selection sees the validation set only. With `folder`, every finished epoch is saved there, and
    a run that was cut off continues with equal results.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=rules.lr, weight_decay=rules.weight_decay)
    kept: dict[str, Tensor] = {}

    def keep(rule: str) -> None:
        kept.update({f"{rule}/{key}": value for key, value in weights_of(model).items()})

    def evaluate(progress: Progress, _ranks: Ranks) -> Evaluation:
        scores = score(model, valid(), rules, forward)
        loss = round(progress.mean("loss", "epoch"), 4)
        row = {"epoch": progress.epoch - 1, "train": {"Loss": loss}, "val": scores}
        now = _chosen([*progress.history, row], rules)
        for rule, epoch in now._asdict().items():
            if epoch == row["epoch"]:
                keep(rule)
        return Evaluation(-scores["Loss"], -scores["Loss"], row)

    keep("loss")
    keep("accuracy")
    work = Work(
        model, optimiser, Constant(optimiser, fresh=not rules.one_optimiser),
        _objective(rules, forward), train, sys.maxsize if rules.max_epochs is None else
        rules.max_epochs, device=device, evaluate=evaluate, kept=kept,
        enough=lambda progress: _stale(progress.history, rules),
    )  # fmt: skip
    rows = EpochRows(log)
    progress = run_training(work, folder, Ranks(), save_seconds=math.inf, saved=rows)
    history = rows.of(progress)
    chosen = _chosen(history, rules)

    def weights(rule: str) -> dict[str, Tensor]:
        start = f"{rule}/"
        return {k.removeprefix(start): v for k, v in kept.items() if k.startswith(start)}

    return MmmlFit(weights("loss"), weights("accuracy"), *chosen, tuple(history))


class _Chosen(NamedTuple):
    """The epochs that the two rules choose; -1 for none."""

    loss: int
    accuracy: int


def _chosen(history: Sequence[LogRow], rules: Rules) -> _Chosen:
    """Return the first epoch of the lowest loss and the last of the highest accuracy."""
    loss, accuracy = -1, -1
    lowest, highest = math.inf, -math.inf
    for row in history:
        scores = row["val"]
        if scores["Loss"] < lowest:
            lowest, loss = scores["Loss"], row["epoch"]
        if scores[ACCURACY[rules.dataset]] >= highest:
            highest, accuracy = scores[ACCURACY[rules.dataset]], row["epoch"]
    return _Chosen(loss, accuracy)


def _stale(history: Sequence[LogRow], rules: Rules) -> bool:
    """Whether the validation loss has not fallen for long enough."""
    return bool(history) and len(history) - 1 - _chosen(history, rules).loss >= rules.early_stop
