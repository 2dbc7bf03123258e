"""SSAMBA fine-tuned the way its authors do through s3prl: utterances in, encoder unfrozen.

Source: s3prl's runner with an unfrozen upstream, and the authors' wrapper of SSAMBA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mambabench.errors import DataError, ProtocolError
from mambabench.models.blocks.initialise import initialise
from mambabench.models.encoders.ssamba import (
    SsambaBackbone,
    SsambaConfiguration,
    classifier_backbone,
)
from mambabench.models.encoders.ssamba_expert import SsambaExpert
from mambabench.train import orders, rates
from mambabench.train.batches import Item, LoaderSource, Place
from mambabench.train.clips import TrainingClip
from mambabench.train.encoder_data import ClipData, ClipFold, check_classes, selection_split
from mambabench.train.encoder_settings import SsambaSettings
from mambabench.train.judge import Judge
from mambabench.train.loaders import read_wave
from mambabench.train.loop import Work
from mambabench.train.objectives import classification, n_drop_calls
from mambabench.train.optimise import adam, all_in_one
from mambabench.train.orders import stream
from mambabench.train.readers import Blocks
from mambabench.train.supervised import recompute
from mambabench.train.system import Call, PreparedTraining

__all__ = ["UnfrozenExpert", "WaveReader", "build_unfrozen", "prepare_unfrozen"]

RATE_HZ = 16000
HIDDEN = 256  # s3prl's projector


class UnfrozenExpert(nn.Module):
    """Utterances -> logits: the wrapper's frames, a linear layer, their mean, a linear layer.

    Input [n, 1 + longest]: the number of samples that count, then the samples, padded with zeros.
    """

    def __init__(self, backbone: SsambaBackbone, n_classes: int) -> None:
        super().__init__()
        c = backbone.configuration
        self.v = backbone
        self._expert = [SsambaExpert(backbone)]  # in a list: its tensors are the backbone's
        bands = (c.spectrogram_size[0] - c.patch_size[0]) // 10 + 1
        self.projector = nn.Linear(bands * c.embed_dim, HIDDEN)
        self.classifier = nn.Linear(HIDDEN, n_classes)

    @property
    def initial_rules(self) -> dict[str, str]:
        """Name what is initialised otherwise than torch: `mambabench.models.blocks.initialise`."""
        return {"v.head.weight": "small", "v.head.bias": "zero"}

    def forward(self, waves: torch.Tensor) -> torch.Tensor:
        """Return logits [n, n_classes]."""
        lengths = waves[:, 0].round().long()
        longest = int(lengths.max())
        expert = self._expert[0].to(waves.device)
        frames = self.projector(expert(list(waves[:, 1 : longest + 1])))
        n_frames = -(-lengths // expert.downsample_rate)
        inside = torch.arange(frames.shape[1], device=waves.device)[None] < n_frames[:, None]
        summed = (frames * inside[..., None].to(frames.dtype)).sum(dim=1)
        mean = summed / inside.sum(dim=1, keepdim=True).to(frames.dtype)
        logits: torch.Tensor = self.classifier(mean)
        return logits


@dataclass(frozen=True)
class WaveReader:
    """Reads utterances, in training a random crop of them."""

    clips: Sequence[TrainingClip]
    n_classes: int
    seed: int
    crop: int = 0  # samples; 0: whole
    n_drops: int = 0
    longest: int = 0  # samples that every item is padded to; 0: its own length

    def __call__(self, place: Place) -> Item:
        """Return one utterance with its one-hot target."""
        clip = self.clips[place.clip]
        wave = read_wave(clip.path, RATE_HZ)[0][0]
        rng = stream(self.seed, place.epoch, place.place, "wave")
        if self.crop and len(wave) > self.crop:
            start = int(rng.integers(len(wave) - self.crop + 1))
            wave = wave[start : start + self.crop]
        padded = F.pad(wave, (0, max(0, self.longest - len(wave))))
        target = torch.zeros(self.n_classes)
        target[list(clip.labels)] = 1.0
        draws = {}
        if self.n_drops:
            draws["drop"] = torch.from_numpy(rng.random(self.n_drops, "float32"))
        inputs = torch.cat((torch.tensor([float(len(wave))]), padded))
        return Item(inputs, target, draws, str(clip.path))


def _longest(clips: Sequence[TrainingClip]) -> int:
    """Return the samples of the longest clip at 16 kHz, from the headers."""
    import soundfile

    longest = 0
    for clip in clips:
        try:
            header = soundfile.info(clip.path)
        except (OSError, soundfile.LibsndfileError) as error:
            raise DataError(f"cannot read the clip {clip.path}: {error}") from error
        longest = max(longest, -(-header.frames * RATE_HZ // header.samplerate) + 1)
    return longest


def build_unfrozen(
    c: SsambaConfiguration, settings: SsambaSettings, n_classes: int
) -> UnfrozenExpert:
    """Return the empty model; as published with RMSNorm, as the authors' wrapper builds it."""
    if settings.mode == "published":
        c = replace(c, rms_norm=True)
    return UnfrozenExpert(SsambaBackbone(c), n_classes)


def prepare_unfrozen(
    settings: SsambaSettings,
    data: ClipData,
    fold: ClipFold,
    seed: int,
    folder: Path,
    call: Call,
    *,
    pretrained: SsambaConfiguration,
    state: Mapping[str, torch.Tensor] | None,
    files: Any,
) -> PreparedTraining:
    """Return the training: Adam at a constant rate, gradients clipped, a number of steps."""
    if settings.steps is None:
        raise ProtocolError("pooling s3prl counts steps: give --set steps=N")
    # s3prl selects on its own validation clips in both modes
    fold, selection = selection_split(fold, replace(settings, mode="sound"))
    if not settings.allow_empty:
        check_classes(fold, data.labels)
    c = replace(pretrained, spectrogram_size=(128, settings.n_frames), strides=(10, 10))
    adapted: dict[str, torch.Tensor] = {}
    if state is not None:
        c, adapted = classifier_backbone(pretrained, state, settings.n_frames, (10, 10))
        c = replace(c, num_classes=len(adapted["head.bias"]))
    n_classes = len(data.labels)
    model = build_unfrozen(c, settings, n_classes)
    initialise(model, seed, c.depth)
    if state is not None:
        own = model.v.state_dict()
        # as published the biases of the checkpoint's LayerNorms are dropped
        model.v.load_state_dict({k: v for k, v in adapted.items() if k in own})
    recompute(model, settings.checkpointing)
    model.to(call.device)
    crop = round(settings.crop_s * RATE_HZ)
    longest = crop or _longest(fold.train)
    read = WaveReader(fold.train, n_classes, seed, crop, n_drop_calls(model), longest)
    n = len(fold.train)
    source = LoaderSource(
        lambda epoch: orders.plain_order(n, seed, epoch), read, n, settings.batch_size, True,
        settings.workers,
    )  # fmt: skip
    optimiser = adam(
        all_in_one(model, settings.weight_decay), settings.lr, (0.9, 0.999), settings.weight_decay
    )
    valid = WaveReader(fold.valid, n_classes, seed)
    judge = Judge(
        model, Blocks(valid, len(fold.valid), 1, settings.workers), "CE", settings.metric, 8,
        settings.mode == "sound", call.device, settings.precision,
    )  # fmt: skip
    epochs = -(-settings.steps // source.steps_per_epoch)
    steps = (
        settings.steps if settings.max_steps is None else min(settings.steps, settings.max_steps)
    )
    work = Work(
        model, optimiser, rates.Stairs(optimiser, warmup=False), classification("CE"), source,
        epochs, device=call.device, precision=settings.precision, accumulate=settings.accumulate,
        clip_norm=settings.clip_norm, on_nan="skip", evaluate=judge,
        evaluate_every=settings.evaluate_every, kept=judge.kept,
        files=files(folder, max(1, steps // settings.evaluate_every), judge), max_steps=steps,
    )  # fmt: skip
    facts = {"training clips": n, "evaluation clips": len(fold.valid), "classes": n_classes}
    return PreparedTraining(work, selection, longest / RATE_HZ, facts)
