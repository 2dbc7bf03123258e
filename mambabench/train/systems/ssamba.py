"""SSAMBA: joint discriminative and generative pretraining, and fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mambabench.errors import EncoderError, ProtocolError
from mambabench.models.blocks.initialise import initialise
from mambabench.models.encoders.ssamba import (
    SsambaBackbone,
    SsambaClassifier,
    SsambaConfiguration,
    SsambaPretraining,
    classifier_backbone,
)
from mambabench.train import orders, rates
from mambabench.train.batches import Batch, LoaderSource
from mambabench.train.classifier_files import Files, classifier_files
from mambabench.train.encoder_data import ClipData, ClipFold, open_clips, selection_split
from mambabench.train.encoder_settings import SsambaSettings
from mambabench.train.initial import initial_state
from mambabench.train.judge import Judge
from mambabench.train.log import SentNames
from mambabench.train.loop import Evaluation, LoopEvent, Losses, Progress, Work
from mambabench.train.objectives import n_drop_calls, ssamba_objective
from mambabench.train.optimise import adamw, all_in_one
from mambabench.train.published import prefixed, save_pth, save_table
from mambabench.train.ranks import Ranks
from mambabench.train.readers import Blocks, FbankReader, Masks
from mambabench.train.supervised import classify, fbank_settings, recompute
from mambabench.train.system import Call, PreparedTraining, System, dimension
from mambabench.train.unfrozen import build_unfrozen, prepare_unfrozen

__all__ = ["SYSTEM", "PretrainingJudge", "finetuning_files", "pretraining_files"]

PUBLISHED_MASKS = 400  # of every evaluation, whatever training masks
PROJECTS = {"esc50": "amba_esc", "audioset": "amba_as", "as20k": "amba_as"}  # by task
SENT_NAMES = {
    "loss": "Train Loss",
    "accuracy": "Train Accuracy",
    "lr": "Learning Rate",
    "epoch": "Epoch",
    "step": "Step",
    "eval_accuracy": "Validation Accuracy",
    "acc": "Validation Accuracy",
    "mAP": "Validation mAP",
    "auc": "Validation AUC",
    "valid_loss": "Validation Loss",
}


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

    def files(event: LoopEvent, work: Work, progress: Progress) -> None:
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


def configuration(settings: SsambaSettings) -> SsambaConfiguration:
    """Return the architecture that pretraining builds."""
    return SsambaConfiguration(
        dimension(settings),
        depth=settings.depth or 24,
        spectrogram_size=(128, settings.n_frames),
        strides=(settings.stride, settings.stride),
        drop_path=settings.drop_path,
    )


def check_masks(settings: SsambaSettings, n_patches: int) -> int:
    """Return how many patches an evaluation masks; ProtocolError where a mask could never end.

    Patch 0 is never masked and the drawing goes on until more than the wanted number are found, so
    n_patches - 2 is the most. As published every evaluation masks 400; otherwise as great a share
    as 400 is of the published 512.
    """
    most = n_patches - 2
    if settings.masks > most:
        raise ProtocolError(
            f"masks = {settings.masks} of {n_patches} patches never ends: at most {most} can be "
            "drawn; lower masks or raise n_frames"
        )
    if settings.mode == "sound":
        return min(most, round(PUBLISHED_MASKS / 512 * n_patches))
    if most < PUBLISHED_MASKS:
        raise ProtocolError(
            f"mode published masks {PUBLISHED_MASKS} patches in every evaluation, and {n_patches} "
            f"patches allow {most} (402 are needed): the original would hang there; use mode sound "
            "or longer inputs"
        )
    return PUBLISHED_MASKS


def _pretrain(
    settings: SsambaSettings, data: ClipData, seed: int, folder: Path, call: Call
) -> PreparedTraining:
    c = configuration(settings)
    n_patches = c.grid[0] * c.grid[1]
    n_valid = check_masks(settings, n_patches)
    model = SsambaPretraining(c)
    initialise(model, seed, c.depth)
    if call.init is not None:
        _load(model, initial_state(call.init), call.init)
    recompute(model, settings.checkpointing)
    model.to(call.device)
    fold, split = _pretraining_fold(data.folds[0], settings)
    names = {"mpc": ("contrastive",), "mpg": ("generative",)}.get(
        settings.target, ("contrastive", "generative")
    )
    masks = Masks(n_patches, settings.masks, c.grid[1], names)
    rate = None if settings.mode == "published" else 16000
    read = FbankReader(
        fold.train, fbank_settings(settings, settings.n_frames), 0, seed, True, settings.mixup,
        rate, masks, n_drop_calls(model) * len(names), settings.batch_size,
    )  # fmt: skip
    n = len(fold.train)
    source = LoaderSource(
        lambda epoch: orders.plain_order(n, seed, epoch), read, n, settings.batch_size, True,
        settings.workers,
    )  # fmt: skip
    plain = replace(read.settings, freqm=0, timem=0, noise=False)
    valid = replace(
        read, clips=fold.valid, settings=plain, augmented=False, mixup=0.0, n_drops=0,
        masks=replace(masks, n_masked=n_valid),
    )  # fmt: skip
    blocks = Blocks(valid, len(fold.valid), 2 * settings.batch_size, settings.workers)
    optimiser = adamw(all_in_one(model, settings.weight_decay), settings.lr, (0.95, 0.999))
    objective = ssamba_objective(settings.target)
    judge = PretrainingJudge(
        model, objective, blocks.batches, settings.target, settings.mode == "published",
        call.device,
    )  # fmt: skip
    every = settings.evaluate_every or source.steps_per_epoch
    work = Work(
        model, optimiser,
        rates.Plateau(optimiser, warmup=settings.warmup, patience=settings.patience),
        objective, source, settings.epochs, device=call.device, precision=settings.precision,
        accumulate=settings.accumulate, clip_norm=settings.clip_norm, evaluate=judge,
        evaluate_every=every, files=pretraining_files(folder, every, judge),
        max_steps=settings.max_steps,
    )  # fmt: skip
    by = "the last training batch ‡" if settings.mode == "published" else split
    facts = {"clips": n, "evaluation clips": len(fold.valid), "patches": n_patches,
             "masked": settings.masks, "masked in evaluations": n_valid}  # fmt: skip
    return PreparedTraining(work, by, settings.n_frames / 100, facts)


def _pretraining_fold(fold: ClipFold, settings: SsambaSettings) -> tuple[ClipFold, str]:
    """Return the fold with evaluation clips: those given, or a share of the training clips."""

    if fold.valid or fold.test:
        return replace(fold, valid=fold.valid or fold.test), "evaluation clips"
    return selection_split(fold, replace(settings, mode="sound"))


def _load(model: nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    try:
        model.load_state_dict(dict(state))
    except RuntimeError as error:
        raise EncoderError(f"--init {path} does not fit these settings: {error}") from error


def classifier(
    settings: SsambaSettings,
    n_classes: int,
    state: Mapping[str, torch.Tensor] | None = None,
    origin: Path | None = None,
    seed: int = 0,
) -> SsambaClassifier:
    """Return the classifier, its head drawn, its backbone drawn or adapted from `state`.

    `state`: a pretraining checkpoint under bare names; only what lies below "v." is used.
    """
    c = configuration(settings)
    strides = (settings.stride, settings.stride)
    if state is None:
        model = SsambaClassifier(SsambaBackbone(c), n_classes, strides, _pooling(settings))
        initialise(model, seed, c.depth)
        return model
    assert origin is not None
    below, old = pretrained(settings, state, origin)
    new, adapted = classifier_backbone(old, below, settings.n_frames, strides)
    new = replace(new, num_classes=len(below["head.bias"]))
    model = SsambaClassifier(SsambaBackbone(new), n_classes, strides, _pooling(settings))
    initialise(model, seed, c.depth)
    _load(model.v, adapted, origin)
    return model


def pretrained(
    settings: SsambaSettings, state: Mapping[str, torch.Tensor], origin: Path
) -> tuple[dict[str, torch.Tensor], SsambaConfiguration]:
    """Return (the backbone's tensors, its architecture) of a pretraining checkpoint."""
    below = {k.removeprefix("v."): v for k, v in state.items() if k.startswith("v.")}
    if "pos_embed" not in below or "p_input_tdim" not in state:
        raise EncoderError(f"--init {origin} is no SSAMBA pretraining checkpoint")
    size = (int(state["p_input_fdim"]), int(state["p_input_tdim"]))
    return below, replace(configuration(settings), spectrogram_size=size, strides=(16, 16))


def _pooling(settings: SsambaSettings) -> str:
    seconds = settings.pooling in ("ft_avgtok_1sec", "time")
    if seconds != (settings.seconds > 0):
        raise ProtocolError(
            f"pooling {settings.pooling} with seconds = {settings.seconds}: clips labelled per "
            "second need pooling ft_avgtok_1sec or time, and only they"
        )
    return settings.pooling


def _classify(
    settings: SsambaSettings, data: ClipData, fold: Any, seed: int, folder: Path, call: Call
) -> PreparedTraining:
    state = None if call.init is None else initial_state(call.init)
    averaged = (settings.average[0], settings.average[-1]) if settings.average else None

    def files(below: Path, epochs: int, judge: Judge) -> Files:
        return finetuning_files(below, epochs, judge, averaged)

    if settings.pooling == "s3prl":
        below, old = None, replace(configuration(settings), strides=(16, 16))
        if state is not None:
            assert call.init is not None
            below, old = pretrained(settings, state, call.init)
        return prepare_unfrozen(
            settings, data, fold, seed, folder, call, pretrained=old, state=below, files=files
        )
    model = classifier(settings, len(data.labels), state, call.init, seed)

    return classify(
        settings, data, fold, seed, folder, call, model=model, head="mlp_head.",
        fbank=fbank_settings(settings, settings.n_frames), files=files, columns=10,
        drop_last=True,
    )  # fmt: skip


def _prepare(
    settings: SsambaSettings, data: Any, fold: Any, seed: int, folder: Path, call: Call
) -> PreparedTraining:
    if settings.objective == "pretrain":
        return _pretrain(settings, data, seed, folder, call)
    return _classify(settings, data, fold, seed, folder, call)


def _open(settings: SsambaSettings, values: Sequence[str]) -> ClipData:
    return open_clips(values, settings)


def _build(settings: SsambaSettings, n_classes: int) -> nn.Module:
    if settings.objective == "pretrain":
        return SsambaPretraining(configuration(settings))
    if settings.pooling == "s3prl":
        return build_unfrozen(configuration(settings), settings, n_classes)
    return classifier(settings, n_classes)


def _run_name(settings: SsambaSettings, row: str, seed: int) -> str:
    return f"{row}/seed-{seed:03d}"


def _sent(settings: SsambaSettings) -> SentNames:
    """Return the authors' names; their validation loss is the error of what is regenerated."""
    loss = "eval_nce" if settings.target == "mpc" else "eval_mse"
    project = PROJECTS.get(settings.task, "amba_final")
    return SentNames(project, {**SENT_NAMES, loss: "Validation Loss"}, every=100)


SYSTEM = System("ssamba", _open, _build, _prepare, _sent, _run_name)
