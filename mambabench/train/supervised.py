"""Classification for every encoder: from settings and clips to a `Work` for the loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from mambabench.errors import ProtocolError
from mambabench.models.blocks.block import Block
from mambabench.models.encoders.frontends import NORMALISATIONS
from mambabench.train import orders, rates
from mambabench.train.augment import FbankSettings
from mambabench.train.batches import LoaderSource
from mambabench.train.classifier_files import Files
from mambabench.train.clips import clip_weights, read_weights
from mambabench.train.encoder_data import ClipData, ClipFold, check_classes, selection_split
from mambabench.train.encoder_settings import AumSettings, EncoderSettings
from mambabench.train.judge import Judge
from mambabench.train.loop import Work
from mambabench.train.objectives import check_mixup, classification, n_drop_calls
from mambabench.train.optimise import adam, adamw, all_in_one, decayed_head_groups, head_groups
from mambabench.train.readers import Blocks, FbankReader
from mambabench.train.system import Call, PreparedTraining

__all__ = ["classifier_rates", "classify", "fbank_settings", "reader_of", "recompute"]

MakeFiles = Callable[[Path, int, Judge], Files]


def fbank_settings(settings: EncoderSettings, n_frames: int, ssam: bool = False) -> FbankSettings:
    """Return how clips become the model's input."""
    if settings.normalisation not in NORMALISATIONS:
        known = ", ".join(NORMALISATIONS)
        raise ProtocolError(f"normalisation is {settings.normalisation!r}, not one of {known}")
    mean, std = NORMALISATIONS[settings.normalisation]
    return FbankSettings(
        n_frames, mean, std, settings.freqm, settings.timem, settings.noise, ssam=ssam
    )


def reader_of(
    fold: ClipFold,
    settings: EncoderSettings,
    fbank: FbankSettings,
    n_classes: int,
    seed: int,
    **more: Any,
) -> tuple[FbankReader, FbankReader]:
    """Return (training reader, evaluation reader)."""
    rate = None if settings.mode == "published" else 16000
    train = FbankReader(fold.train, fbank, n_classes, seed, True, settings.mixup, rate, **more)
    return train, FbankReader(fold.valid, fbank, n_classes, seed, False, 0.0, rate)


def classifier_rates(
    settings: EncoderSettings, optimiser: torch.optim.Optimizer, steps_per_epoch: int
) -> rates.Rates:
    """Return the schedule that the settings ask for."""
    k = settings.batch_scale if isinstance(settings, AumSettings) else 1
    if isinstance(settings, AumSettings) and settings.dataset == "epic_sounds":
        return rates.EpicRates(
            optimiser, steps_per_epoch, warmup=settings.warmup, decay=settings.mode == "sound"
        )
    if settings.adaptive:
        return rates.Plateau(optimiser, warmup=settings.warmup, patience=settings.adaptive_patience)
    return rates.Milestones(
        optimiser,
        start=settings.decay_start,
        step=settings.decay_step,
        factor=settings.decay,
        warmup=settings.warmup,
        length=1000 // k,
        stair=50 // k,
        after_warmup=settings.mode == "sound",
    )


def recompute(model: nn.Module, on: bool) -> None:
    """Let every block of `model` be computed again in the backward pass."""
    for module in model.modules():
        if isinstance(module, Block):
            module.recompute = on


def _order(
    fold: ClipFold, settings: EncoderSettings, n_classes: int, seed: int
) -> Callable[[int], orders.Order]:
    n = len(fold.train)
    if not settings.balanced:
        return lambda epoch: orders.plain_order(n, seed, epoch)
    if fold.weights is not None:
        weights = read_weights(fold.weights, fold.train, n_classes)
    else:
        weights = clip_weights(fold.train, n_classes)
    return lambda epoch: orders.balanced_order(weights, seed, epoch)


def _optimiser(
    model: nn.Module, settings: EncoderSettings, head: str, columns: int, decoupled: bool
) -> torch.optim.Optimizer:
    lr, decay, factor = settings.lr, settings.weight_decay, settings.head_lr
    if decoupled:
        return adamw(decayed_head_groups(model, decay, lr, factor, head), lr, (0.9, 0.999))
    if factor == 1.0 and columns == 8:
        groups = all_in_one(model, decay)
    else:
        groups = head_groups(model, lr, factor, head)
    scale = settings.batch_scale if isinstance(settings, AumSettings) else 1
    return adam(groups, lr, weight_decay=decay, scale=scale)


def classify(
    settings: EncoderSettings,
    data: ClipData,
    fold: ClipFold,
    seed: int,
    folder: Path,
    call: Call,
    *,
    model: nn.Module,
    head: str,
    fbank: FbankSettings,
    files: MakeFiles,
    columns: int,
    drop_last: bool,
    decoupled: bool = False,
    on_nan: Literal["stop", "skip"] = "stop",
    **draws: Any,
) -> PreparedTraining:
    """Return the training of a classifier `model` whose head's parameters begin with `head`.

    decoupled: AdamW, for a decay of the size that SSAM pretrains with; added to Adam's gradient, as
    SSAMBA and AuM do with theirs of 5e-7, it would take all weights to zero.
    """
    published = settings.mode == "published"
    check_mixup(settings.loss, settings.mixup, published)
    fold, selection = selection_split(fold, settings, len(data.folds))
    if not settings.allow_empty:
        check_classes(fold, data.labels)
    n_classes = len(data.labels)
    train, valid = reader_of(
        fold, settings, fbank, n_classes, seed,
        n_drops=n_drop_calls(model), batch_size=settings.batch_size, **draws,
    )  # fmt: skip
    recompute(model, settings.checkpointing)
    model.to(call.device)
    source = LoaderSource(
        _order(fold, settings, n_classes, seed), train, len(fold.train), settings.batch_size,
        drop_last, settings.workers,
    )  # fmt: skip
    optimiser = _optimiser(model, settings, head, columns, decoupled)
    blocks = Blocks(valid, len(fold.valid), 2 * settings.batch_size, settings.workers)
    judge = Judge(
        model, blocks, settings.loss, settings.metric, columns, not published, call.device,
        settings.precision,
    )  # fmt: skip
    work = Work(
        model, optimiser, classifier_rates(settings, optimiser, source.steps_per_epoch),
        classification(settings.loss, soft=not published), source, settings.epochs,
        device=call.device, precision=settings.precision, accumulate=settings.accumulate,
        clip_norm=settings.clip_norm, on_nan=on_nan, evaluate=judge, kept=judge.kept,
        files=files(folder, settings.epochs, judge), max_steps=settings.max_steps,
    )  # fmt: skip
    facts = {
        "training clips": len(fold.train),
        "evaluation clips": len(fold.valid),
        "classes": n_classes,
    }
    return PreparedTraining(work, selection, fbank.n_frames * fbank.hop_ms / 1000, facts)
