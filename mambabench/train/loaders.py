"""Read a labelled clip the way SSAMBA's and AuM's training loaders do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from mambabench.errors import DataError
from mambabench.train.augment import Draws, FbankSettings, fbank_of, mix_waves, soft_labels
from mambabench.train.clips import TrainingClip

__all__ = ["Sample", "load_clip", "read_wave"]

MIN_SECONDS = 0.025  # one frame


class Sample(NamedTuple):
    """A clip ready for the model."""

    fbank: torch.Tensor  # [n_frames, n_mels] float32
    target: torch.Tensor  # [n_classes] float32


def read_wave(path: Path, rate_hz: int | None = None) -> tuple[torch.Tensor, int]:
    """Return (wave [channels, n] float32 in [-1, 1), sample rate).

    With `rate_hz` (the sound mode) the channels are averaged and the result resampled. DataError
    for a file that cannot be read or is shorter than a frame.
    """
    import soundfile

    try:
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise DataError(f"cannot read the clip {path}: {error}") from error
    if len(audio) < MIN_SECONDS * rate:
        raise DataError(
            f"clip {path} has {len(audio)} samples, less than one frame of 25 ms; leave it out"
        )
    if not np.isfinite(audio).all():
        raise DataError(f"clip {path} has samples that are not finite; replace it")
    if rate_hz is not None and rate != rate_hz:
        import soxr

        mono = soxr.resample(audio.mean(axis=1), rate, rate_hz, quality="HQ")
        return torch.from_numpy(np.ascontiguousarray(mono, dtype=np.float32))[None], rate_hz
    wave = torch.from_numpy(audio.T.copy())
    return (wave if rate_hz is None else wave.mean(dim=0, keepdim=True)), int(rate)


def load_clip(
    clips: Sequence[TrainingClip],
    index: int,
    settings: FbankSettings,
    draws: Draws | None,
    *,
    mixup: float = 0.0,
    n_classes: int,
    rate_hz: int | None = None,
) -> Sample:
    """Return clip `index` with its augmentation; `draws` None gives it as it is.

    rate_hz None: the file's own rate goes into the filters and the first channel is heard, as
    published; otherwise channels are averaged and resampled first.
    """
    wave, rate = read_wave(clips[index].path, rate_hz)
    second, labels, share = None, None, 1.0
    if draws is not None and draws.mixed() < mixup:
        partner = draws.partner(len(clips))
        share = draws.share()
        second, labels = read_wave(clips[partner].path, rate_hz)[0], clips[partner].labels
    wave = mix_waves(wave, second, share)
    target = soft_labels(clips[index].labels, labels, share, n_classes)
    return Sample(fbank_of(wave, rate, settings, draws), target)
