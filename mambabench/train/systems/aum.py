"""AuM: supervised training from scratch, from ImageNet's Vim or from AudioSet's AuM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from mambabench.errors import EncoderError
from mambabench.models.blocks.initialise import initialise
from mambabench.models.encoders.aum import AumConfiguration, AumEncoder, adapt_state
from mambabench.train import orders
from mambabench.train.batches import LoaderSource
from mambabench.train.classifier_files import Files, classifier_files
from mambabench.train.encoder_data import ClipData, open_clips
from mambabench.train.encoder_settings import AumSettings
from mambabench.train.epic_data import EpicData, open_epic, select_segments
from mambabench.train.initial import initial_state
from mambabench.train.judge import Judge
from mambabench.train.log import SentNames
from mambabench.train.loop import Work
from mambabench.train.objectives import classification
from mambabench.train.optimise import adam, all_in_one
from mambabench.train.readers import Blocks, EpicReader
from mambabench.train.supervised import classifier_rates, classify, fbank_settings, recompute
from mambabench.train.system import Call, PreparedTraining, System, dimension

__all__ = ["SYSTEM", "configuration", "training_files"]

DIRECTIONS = {"Fo-Fo": "none", "Fo-Bi": "v1", "Bi-Bi": "v2"}


def training_files(folder: Path, epochs: int, judge: Judge, keep_all: bool = True) -> Files:
    """Return what writes AuM's files; `keep_all` False keeps only the best weights."""
    return classifier_files(folder, epochs, judge, parallel=False, keep_all=keep_all)


def _open(settings: AumSettings, values: Sequence[str]) -> ClipData | EpicData:
    """Read the lists, or EPIC-SOUNDS' annotations."""
    return open_clips(values, settings) if settings.dataset == "list" else open_epic(values)


def configuration(settings: AumSettings, n_classes: int) -> AumConfiguration:
    """Return the architecture."""
    return AumConfiguration(
        dimension(settings),
        depth=settings.depth or 24,
        spectrogram_size=(128, settings.n_frames),
        patch_size=(settings.patch_size, settings.patch_size),
        strides=(settings.stride, settings.stride),
        num_classes=n_classes,
        directions=DIRECTIONS[settings.variant],
        class_token=settings.class_token,
        transposed=settings.transposed,
        drop_path=settings.drop_path,
    )


def _model(settings: AumSettings, n_classes: int, seed: int, call: Call) -> AumEncoder:
    """Return the encoder with its first weights: drawn, or adapted from --init."""
    c = configuration(settings, n_classes)
    model = AumEncoder(c)
    initialise(model, seed, c.depth)
    if call.init is None:
        return model
    adapted = adapt_state(initial_state(call.init), c)
    own = model.state_dict()
    for key in ("head.weight", "head.bias"):  # a head of other classes stays as drawn
        adapted.setdefault(key, own[key])
    if "cls_token" in adapted and "cls_token" not in own:
        raise EncoderError(f"--init {call.init}: one class token does not fit {c.class_token!r}")
    try:
        model.load_state_dict(adapted)
    except RuntimeError as error:
        raise EncoderError(f"--init {call.init} does not fit these settings: {error}") from error
    return model


def _prepare(
    settings: AumSettings, data: Any, fold: Any, seed: int, folder: Path, call: Call
) -> PreparedTraining:
    model = _model(settings, len(data.labels), seed, call)

    def files(below: Path, epochs: int, judge: Judge) -> Files:
        return training_files(below, epochs, judge, settings.keep_all)

    if isinstance(data, EpicData):
        return _epic(settings, data, model, seed, folder, call, files)
    grid = model.configuration.grid
    return classify(
        settings, data, fold, seed, folder, call, model=model, head="head.",
        fbank=fbank_settings(settings, settings.n_frames), files=files, columns=8,
        drop_last=False, on_nan="skip", flexible=settings.flexible,
        class_places=grid[0] * grid[1] if settings.random_class_place else 0,
    )  # fmt: skip


def _epic(
    settings: AumSettings,
    data: EpicData,
    model: AumEncoder,
    seed: int,
    folder: Path,
    call: Call,
    files: Any,
) -> PreparedTraining:
    published = settings.mode == "published"
    train, valid, selection = select_segments(data, settings)
    recompute(model, settings.checkpointing)
    model.to(call.device)
    read = EpicReader(
        train, data.audio, len(data.labels), seed, True, published, settings.n_frames,
        settings.freqm, settings.timem, published and settings.warp == "published",
    )  # fmt: skip
    judged = replace(read, segments=valid, augmented=False)
    n = len(train)
    source = LoaderSource(
        lambda epoch: orders.plain_order(n, seed, epoch), read, n, settings.batch_size, True,
        settings.workers,
    )  # fmt: skip
    optimiser = adam(
        all_in_one(model, settings.weight_decay), settings.lr,
        weight_decay=settings.weight_decay, scale=settings.batch_scale,
    )  # fmt: skip
    judge = Judge(
        model, Blocks(judged, len(valid), 2 * settings.batch_size, settings.workers),
        settings.loss, settings.metric, 8, not published, call.device, settings.precision,
    )  # fmt: skip
    work = Work(
        model, optimiser, classifier_rates(settings, optimiser, source.steps_per_epoch),
        classification(settings.loss, soft=not published), source, settings.epochs,
        device=call.device, precision=settings.precision, accumulate=settings.accumulate,
        clip_norm=settings.clip_norm, on_nan="skip", evaluate=judge, kept=judge.kept,
        files=files(folder, settings.epochs, judge), max_steps=settings.max_steps,
    )  # fmt: skip
    facts = {"training clips": n, "evaluation clips": len(valid), "classes": len(data.labels)}
    return PreparedTraining(work, selection, settings.n_frames * 0.005, facts)


def _build(settings: AumSettings, n_classes: int) -> nn.Module:
    return AumEncoder(configuration(settings, n_classes))


def _run_name(settings: AumSettings, row: str, seed: int) -> str:
    return f"{row}/seed-{seed:03d}"


# its authors log nowhere: our names
SYSTEM = System("aum", _open, _build, _prepare, lambda _: SentNames("aum"), _run_name)
