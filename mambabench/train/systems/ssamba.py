"""SSAMBA: joint discriminative and generative pretraining, and fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from mambabench.train.batches import Batch
from mambabench.train.classifier_files import Files, classifier_files
from mambabench.train.judge import Judge
from mambabench.train.loop import Evaluation, Event, Losses, Progress, Work
from mambabench.train.published import prefixed, save_pth, save_table
from mambabench.train.ranks import Ranks

__all__ = ["PretrainingJudge", "finetuning_files", "pretraining_files"]


@dataclass
class PretrainingJudge:
    """Evaluates the objective on validation clips; the accuracy (mpg: -mse) leads the schedule.

    published: the best weights are those whose LAST TRAINING BATCH was best (mpg: had the highest
    error, i.e. the worst); otherwise those of the best evaluation.
    """

    model: nn.Module
    objective: Callable[[nn.Module, Batch], Losses]
    validation: Callable[[Ranks], Iterator[Batch]]
    task: str
    published: bool = False
    device: str = "cpu"

    def __call__(self, progress: Progress, ranks: Ranks) -> Evaluation:
        """Evaluate on this rank's share and average over all clips."""
        names = {"mpg": ("mse",), "mpc": ("accuracy", "nce")}.get(
            self.task, ("accuracy", "nce", "mse")
        )
        sums = [0.0] * (len(names) + 1)
        for batch in self.validation(ranks):
            shown = self.objective(self.model, batch.to(self.device)).shown
            for i, name in enumerate(names):
                sums[i] += float(shown[name]) * len(batch)
            sums[-1] += len(batch)
        totals = ranks.total(sums, self.device)
        means = {name: totals[i] / totals[-1] for i, name in enumerate(names)}
        trained = "mse" if self.task == "mpg" else "accuracy"
        score = -means["mse"] if self.task == "mpg" else means["accuracy"]
        last = progress.last.get(trained, float("nan"))
        row = {
            "train_accuracy": progress.mean(trained, "evaluation"),
            "train_loss": progress.mean("loss", "evaluation"),
            **{f"eval_{name}": value for name, value in means.items()},
        }
        return Evaluation(score, last if self.published else score, row)


def pretraining_files(folder: Path, every: int, judge: PretrainingJudge) -> Files:
    """Return what writes result.csv and models/ as the authors' pretraining does.

    models/audio_model.<n>.pth: n = steps + 1 at the start of an epoch, evaluations + 1 after an
    evaluation; where two would share a name, ours of the epoch's start is called
    epoch_start.<n>.pth, as the authors' overwrites the other.
    """

    def files(event: Event, work: Work, progress: Progress) -> None:
        models = folder / "models"
        state = prefixed({k: v.detach().cpu() for k, v in work.model.state_dict().items()})
        at_start = event == "start" or (event == "epoch" and progress.epoch < work.n_epochs)
        if at_start:
            n = progress.step + 1
            name = "audio_model" if n == 1 or n > work.n_steps // every + 1 else "epoch_start"
            save_pth(models / f"{name}.{n}.pth", state)
        if event != "evaluation":
            return
        save_pth(models / f"audio_model.{progress.step // every + 1}.pth", state)
        if progress.best_step == progress.step:
            save_pth(models / "best_audio_model.pth", state)
        accuracy = "eval_mse" if judge.task == "mpg" else "eval_accuracy"
        loss = "eval_nce" if judge.task == "mpc" else "eval_mse"
        columns = ("train_accuracy", "train_loss", accuracy, loss, "lr")
        rows = [[row[name] for name in columns] for row in progress.history]
        save_table(folder / "result.csv", rows)

    return files


def finetuning_files(
    folder: Path, epochs: int, judge: Judge, averaged: tuple[int, int] | None = None
) -> Files:
    """Return what writes SSAMBA's fine-tuning files."""
    return classifier_files(folder, epochs, judge, parallel=True, keep_all=False, averaged=averaged)
