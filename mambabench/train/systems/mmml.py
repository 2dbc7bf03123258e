"""MMML as a system that `train` and `evaluate` run: its data, its model, one seed, one test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mambabench.errors import ProtocolError
from mambabench.models.affect.hugging_face import backbone_config, load_backbone
from mambabench.models.affect.mmml import FusionConfig, FusionOutput
from mambabench.models.affect.mmml_audio import AudioRaw, AudioSmile, AudioSpec
from mambabench.models.affect.mmml_end_to_end import EndToEnd
from mambabench.models.affect.mmml_heads import AdaptedFusion, SceneHead, Single, TextOnly
from mambabench.train.batches import Epochs
from mambabench.train.fusion_data import FusionData, batches, open_data
from mambabench.train.mmml import Forward, Rules, call, fit, predict
from mambabench.train.settings import MmmlSettings
from mambabench.train.state import save_tensors, seeded, weights_sha256

__all__ = ["build_model", "open_data", "predict_split", "rules_of", "train_seed"]


def rules_of(settings: MmmlSettings, dataset: str) -> Rules:
    """Return the training rules that the settings name."""
    return Rules(
        dataset=dataset,
        tasks=settings.tasks,
        loss=settings.loss,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        early_stop=settings.early_stop,
        max_epochs=settings.max_epochs,
        one_optimiser=settings.one_optimiser,
    )


def fusion_config(settings: MmmlSettings, text_size: int, audio_size: int) -> FusionConfig:
    """Return the fusion network's configuration for inputs of the given widths."""
    if settings.fusion == "text":
        raise ProtocolError("the text-only model has no fusion network")
    width = settings.hidden or text_size
    audio = width if settings.fusion == "cme" or settings.hidden else audio_size
    return FusionConfig(
        fusion=settings.fusion,
        version=settings.version,
        context=settings.context,
        language="ch" if settings.task == "sims" else "en",
        text_size=width,
        audio_size=audio,
        n_layers=settings.n_layers,
        heads=settings.heads,
        ffn=settings.ffn,
        middle=settings.middle,
        context_middle=settings.context_middle,
        mixed_ffn=settings.mixed_ffn,
        dropout=settings.dropout,
        mixed_dropout=min(settings.dropout, 0.1),
        self_attention=settings.self_attention,
        feed_forward=settings.feed_forward,
    )


def build_model(settings: MmmlSettings, data: FusionData) -> nn.Module:
    """Return the model with fresh weights (backbones: with those of their directories)."""
    kind = settings.input
    if kind == "scene":
        return SceneHead(data.audio_size, settings.scene_hidden, settings.dropout)
    if kind == "spec":
        return Single(AudioSpec())
    if kind == "smile":
        return Single(AudioSmile(data.audio_size))
    if kind in ("raw", "tokens"):
        return _with_backbones(settings)
    if settings.fusion == "text":
        return TextOnly(data.text_size, settings.dropout, context=settings.context)
    config = fusion_config(settings, data.text_size, data.audio_size)
    return AdaptedFusion(config, data.text_size, data.audio_size)


def _with_backbones(settings: MmmlSettings) -> nn.Module:

    assert settings.audio_dir is not None  # the data asked for it
    audio_config = backbone_config(Path(settings.audio_dir))
    audio, _ = load_backbone(Path(settings.audio_dir))
    if settings.input == "raw":
        raw = AudioRaw(audio_config)
        raw.backbone.load_state_dict(audio.state_dict())
        return Single(raw)
    assert settings.text_dir is not None  # the data needed its tokenizer
    text_config = backbone_config(Path(settings.text_dir))
    text, _ = load_backbone(Path(settings.text_dir))
    sizes = int(text_config["hidden_size"]), int(audio_config["hidden_size"])
    if settings.fusion == "text":
        raise ProtocolError("fusion 'text' works on stored texts; set input='frames'")
    model = EndToEnd(fusion_config(settings, *sizes), text_config, audio_config)
    model.roberta_model.load_state_dict(text.state_dict())
    model.audio_model.load_state_dict(audio.state_dict())
    return model


def _forward(settings: MmmlSettings) -> Forward:
    if settings.input != "tokens":
        return call

    def end_to_end(model: nn.Module, inputs: Any) -> FusionOutput:

        assert isinstance(model, EndToEnd)
        return model.forward_tokens(*inputs)

    return end_to_end


def train_seed(
    settings: MmmlSettings,
    data: FusionData,
    seed: int,
    folder: Path,
    *,
    device: str = "cpu",
    log: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Train one seed into `folder` and return its result as JSON values; no test data are used."""
    with seeded(seed, "weights"):
        model = build_model(settings, data).to(device)
    size = settings.batch_size
    result = fit(
        model,
        Epochs(
            lambda epoch: batches(data, "train", size, order=(seed, epoch), device=device),
            -(-len(data.items["train"]) // size),
            seed,
        ),
        lambda: batches(data, "valid", size, device=device),
        rules_of(settings, data.dataset),
        forward=_forward(settings),
        device=device,
        folder=folder,
        log=log,
    )
    by_loss = settings.select == "loss"
    chosen, other = result.by_loss, result.by_accuracy
    epoch = result.best_loss_epoch if by_loss else result.best_accuracy_epoch
    if not by_loss:
        chosen, other = other, chosen
    save_tensors(folder / "weights.safetensors", chosen, {})
    save_tensors(folder / "weights-other-rule.safetensors", other, {})
    return {
        "best_epoch": epoch,
        "best_loss_epoch": result.best_loss_epoch,
        "best_accuracy_epoch": result.best_accuracy_epoch,
        "n_epochs": len(result.history),
        "selection": {
            "rule": "lowest validation loss" if by_loss else "highest validation accuracy",
            "split": "valid",
            "score": result.history[epoch]["val"]["Loss"] if result.history else None,
        },
        "threshold": {"value": 0.0, "source": "zero"},
        "validation": _finite(result.history[epoch]["val"]) if result.history else None,
        "weights_sha256": weights_sha256(chosen),
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "n_train": len(data.items["train"]),
        "n_valid": len(data.items["valid"]),
    }


def _finite(scores: dict[str, float]) -> dict[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in scores.items()}


def predict_split(
    settings: MmmlSettings,
    data: FusionData,
    split: str,
    weights: dict[str, torch.Tensor],
    device: str = "cpu",
) -> tuple[tuple[str, ...], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return (clip names, predictions, targets) of the scored head on a split."""
    model = build_model(settings, data).to(device)
    model.load_state_dict(weights)
    rules = rules_of(settings, data.dataset)
    found = batches(data, split, settings.batch_size, device=device)
    predicted, wanted, _ = predict(model, found, rules, _forward(settings))
    head = settings.tasks[0]
    return tuple(item.name for item in data.items[split]), predicted[head], wanted[head]
