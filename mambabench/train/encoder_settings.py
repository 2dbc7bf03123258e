"""What the training of an encoder can be told: typed, checked, stored with its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["SIZES", "AumSettings", "EncoderSettings", "SsamSettings", "SsambaSettings"]

SIZES = {"tiny": 192, "small": 384, "base": 768}


@dataclass(frozen=True)
class EncoderSettings:
    """What the four systems share. The defaults are for data of one's own, in mode sound.

    mode "published" keeps the originals' quirks that change numbers, "sound" does what is right
    instead: see docs/training.md.
    """

    task: str = "own"  # names the run's folder and what `evaluate` compares with
    mode: Literal["published", "sound"] = "sound"
    objective: Literal["pretrain", "classify"] = "pretrain"
    size: Literal["tiny", "small", "base"] = "tiny"
    embed_dim: int | None = None  # None: the size's
    depth: int | None = None  # None: the system's
    n_frames: int = 1024  # of the input
    epochs: int = 10
    max_steps: int | None = None  # stop there: for trials
    batch_size: int = 32  # clips of an optimiser step, over all ranks and micro-batches
    accumulate: int = 1  # micro-batches per rank and step
    workers: int = 2  # processes that read clips, per rank
    lr: float = 1e-4
    weight_decay: float = 5e-7
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    clip_norm: float | None = None
    drop_path: float = 0.0
    checkpointing: bool = False  # recompute blocks in the backward pass: less memory, more time
    # classification
    head_lr: float = 1.0  # the head's rate as a multiple of lr
    loss: Literal["BCE", "CE"] = "BCE"
    metric: Literal["acc", "mAP"] = "acc"
    seconds: int = 0  # labelled seconds per clip; 0: one label set per clip
    normalisation: str = "audioset"  # whose mean and deviation of the fbanks
    warmup: bool = False  # 1000 steps in stairs of 50
    decay_start: int = 10  # the epoch after which rates first decay
    decay_step: int = 5
    decay: float = 0.5
    adaptive: bool = False  # halve the rates on a plateau of the metric instead
    adaptive_patience: int = 1
    freqm: int = 0
    timem: int = 0
    mixup: float = 0.0
    noise: bool = False
    balanced: bool = False  # draw clips with the weights of their labels
    average: tuple[int, ...] = ()  # first and last epoch whose weights are averaged
    allow_empty: bool = False  # classes without a training clip
    held_out: float = 0.1  # share of training clips to select on, where sound and none are given
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class SsamSettings(EncoderSettings):
    """SSAM and its transformer twin."""

    task: str = "audioset"
    n_frames: int = 200
    epochs: int = 100
    batch_size: int = 1024
    lr: float = 1.5e-4  # per 256 clips: the peak is lr * batch_size / 256
    weight_decay: float = 0.05
    warmup_epochs: float = 10
    min_lr: float = 0.0
    bias_decay: bool = False
    mask_ratio: float = 0.5
    masking: Literal["unstructured", "timestep"] = "unstructured"
    norm_pixels: bool = False
    cls_token: bool = True
    d_state: int = 24
    expand: int = 3
    samples: int | None = None  # clips that make an epoch, published; None: those that there are
    buffer: int = 10_000  # records in the shuffling buffer
    ranks: int = 4  # readers of the published order, whatever runs: ranks x readers each
    readers: int = 16
    clip_frames: int = 1000  # of a labelled clip, cut or padded; whole chunks of n_frames
    checkpoints: Literal["all", "last"] = "all"  # authors' files: as published, or the last only


@dataclass(frozen=True)
class SsambaSettings(EncoderSettings):
    """SSAMBA."""

    batch_size: int = 64
    weight_decay: float = 5e-8
    drop_path: float = 0.1
    masks: int = 400  # masked patches of a clip
    target: Literal["joint", "mpc", "mpg"] = "joint"
    evaluate_every: int = 4000  # steps between evaluations of pretraining
    patience: int = 2  # evaluations without improvement before the rate halves
    warmup: bool = True
    stride: int = 16  # of the patches; fine-tuning uses 10
    pooling: Literal["ft_avgtok", "ft_cls", "ft_avgtok_1sec", "time", "s3prl"] = "ft_avgtok"
    crop_s: float = 0.0  # random crop of training clips, seconds; 0: none
    steps: int | None = None  # optimiser steps in all instead of epochs (s3prl's recipes)


@dataclass(frozen=True)
class AumSettings(EncoderSettings):
    """AuM."""

    objective: Literal["pretrain", "classify"] = "classify"
    batch_size: int = 12
    lr: float = 1e-5
    variant: Literal["Fo-Fo", "Fo-Bi", "Bi-Bi"] = "Fo-Bi"
    class_token: Literal["middle", "head", "end", "double", "none"] = "middle"
    random_class_place: bool = False  # the class token stands elsewhere in every training batch
    transposed: bool = False
    patch_size: int = 16
    stride: int = 16
    flexible: bool = False  # every step another patch size, 8 to 48, with stride equal to it
    batch_scale: int = 1  # bs_scale_factor: betas, eps and warm-up for a larger batch
    dataset: Literal["list", "epic_sounds"] = "list"
    warp: Literal["published", "none"] = "none"  # EPIC's time warp
    keep_all: bool = False  # weights and optimiser of every epoch, as published
