"""The files that SSAMBA's and AuM's fine-tuning scripts leave, written while ours trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from mambabench.train.judge import CUMULATIVE, Judge
from mambabench.train.loop import LoopEvent, Progress, Work
from mambabench.train.published import prefixed, save_pth, save_table

__all__ = ["Files", "classifier_files"]

Files = Callable[[LoopEvent, Work, Progress], None]
_MAIN = ("main", "auc", "middle_precision", "middle_recall", "d_prime", "train_loss", "valid_loss")
COLUMNS = {8: (*_MAIN, "lr"), 10: (*_MAIN, "cumulative", "cumulative_auc", "lr")}


def classifier_files(
    folder: Path,
    epochs: int,
    judge: Judge,
    *,
    parallel: bool,
    keep_all: bool,
    averaged: tuple[int, int] | None = None,
) -> Files:
    """Return what writes result.csv, predictions/ and models/ after each evaluation.

    parallel: keys under "module."; keep_all: predictions and weights of every epoch stay (AuM);
    averaged: epochs whose weights are kept as models/audio_model.<epoch>.pth.
    """

    def state(work: Work) -> Mapping[str, torch.Tensor]:
        found = {k: v.detach().cpu() for k, v in work.model.state_dict().items()}
        return prefixed(found) if parallel else found

    def files(event: LoopEvent, work: Work, progress: Progress) -> None:
        if event != "evaluation":
            return
        epoch = len(progress.history)
        _tables(folder, epochs, judge, progress)
        _predictions(folder, epoch, judge, keep_all)
        weights = state(work)
        if progress.best_step == progress.step:
            save_pth(folder / "models" / "best_audio_model.pth", weights)
            save_pth(folder / "models" / "best_optim_state.pth", work.optimiser.state_dict())
        if keep_all:
            save_pth(folder / "models" / f"latest_audio_model.{epoch}.pth", weights)
            path = folder / "models" / f"latest_optim_state.{epoch}.pth"
            save_pth(path, work.optimiser.state_dict())
        if averaged is not None and averaged[0] <= epoch <= averaged[1]:
            save_pth(folder / "models" / f"audio_model.{epoch}.pth", weights)

    return files


def _tables(folder: Path, epochs: int, judge: Judge, progress: Progress) -> None:
    """Write one row per epoch, zeros for those to come."""
    if "auc" not in progress.history[-1]:  # scored per second
        rows = [[i, r["mAP"], r["acc"]] for i, r in enumerate(progress.history, start=1)]
        save_table(folder / "metrics.csv", rows)
        return
    columns = COLUMNS[judge.columns]
    table: list[list[Any]] = [[row[c] for c in columns] for row in progress.history]
    table += [[0.0] * len(columns)] * (epochs - len(table))
    save_table(folder / "result.csv", table)


def _predictions(folder: Path, epoch: int, judge: Judge, keep_all: bool) -> None:
    assert judge.latest is not None
    below = folder / "predictions"
    flat = judge.latest.probabilities.reshape(len(judge.latest.probabilities), -1)
    save_table(below / f"predictions_{epoch}.csv", flat)
    if epoch == 1:
        save_table(below / "target.csv", judge.latest.targets)
    elif not keep_all:
        (below / f"predictions_{epoch - 1}.csv").unlink(missing_ok=True)
    if CUMULATIVE in judge.kept:
        save_table(below / "cum_predictions.csv", judge.kept[CUMULATIVE].numpy())
