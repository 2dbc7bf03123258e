"""Inputs of MMML that come from samples: token ids with audio, and the audio-only front-ends.

Source: the published code of MMML (Wu et al., NAACL 2024): its end-to-end model and the three
front-ends of its audio experiments (mel CNN, ComParE, raw).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mambabench.benchmarks.sentiment.mmsa import (
    SAMPLE_RATE_HZ,
    Utterance,
    context_of,
    normalised,
    read_audio,
    wav_path,
)
from mambabench.benchmarks.sentiment.prepare import scoring
from mambabench.errors import DataError, ProtocolError
from mambabench.models.affect import hugging_face
from mambabench.train.settings import MmmlSettings
from mambabench.train.sources import Sources
from mambabench.train.state import derived_seed

__all__ = ["maker", "mel_spectrogram", "smile_features", "spec_input"]

Array = npt.NDArray[np.float32]
Tensor = torch.Tensor
MakeInput = Callable[[Path, Sequence[Utterance], int], Any]
Collate = Callable[[Sequence[Any]], Any]

N_FFT, HOP, N_MELS = 960, 320, 128
SMILE_FRAMES, SMILE_SIZE = 300, 130
# published per-channel mean and variance of the mel spectrograms; sims serves where none is named
_MEL_STATISTICS = {
    "mosi": ((-34.575, -34.621), (492.96, 491.16)),
    "sims": ((-30.246, -30.355), (473.89, 472.07)),
}


def maker(
    settings: MmmlSettings, sources: Sources, items: Sequence[Utterance]
) -> tuple[MakeInput, Collate, int]:
    """Return (how an utterance is read, how they become a batch, width of an audio feature)."""
    if settings.input == "tokens":
        return _tokens(settings)
    if settings.input == "spec":
        statistics = scoring(settings.task)

        def spec(root: Path, of: Sequence[Utterance], i: int) -> Tensor:
            samples = read_audio(wav_path(root, of[i]))
            return spec_input(samples, statistics, settings.max_samples, of[i].name)

        return spec, lambda part: (torch.stack([item.inputs for item in part]),), N_MELS
    if settings.input == "smile":
        return _smile(sources.corpus_root("smile"), items)
    return _raw(settings)


@cache
def _mel_filters() -> Tensor:
    """Return triangular filters on the HTK mel scale, [n_fft // 2 + 1, n_mels], without norm."""

    def mel(hz: float) -> float:
        return 2595.0 * math.log10(1.0 + hz / 700.0)

    points = torch.linspace(mel(0.0), mel(SAMPLE_RATE_HZ / 2), N_MELS + 2, dtype=torch.float64)
    hz = 700.0 * (10.0 ** (points / 2595.0) - 1.0)
    bins = torch.linspace(0, SAMPLE_RATE_HZ / 2, N_FFT // 2 + 1, dtype=torch.float64)
    slopes = hz[None, :] - bins[:, None]
    down, up = -slopes[:, :-2] / (hz[1:-1] - hz[:-2]), slopes[:, 2:] / (hz[2:] - hz[1:-1])
    return torch.minimum(down, up).clamp(min=0).float()


def mel_spectrogram(samples: Tensor) -> Tensor:
    """Return [n_mels, frames] in decibels of power, at most 80 below the loudest value."""
    spectrum = torch.stft(
        samples,
        N_FFT,
        HOP,
        window=torch.hann_window(N_FFT),
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    power = _mel_filters().T @ spectrum.abs().square()
    decibels = 10.0 * torch.log10(power.clamp(min=1e-10))
    return decibels.clamp(min=float(decibels.max()) - 80.0)


def spec_input(samples: Array, statistics: str, n_samples: int, name: str) -> Tensor:
    """Return [2, n_mels, frames]: the clip at a random place in `n_samples` of silence, twice.

    The place is drawn from the clip's name, so that it is the same in every epoch and at test; the
    published code draws it anew. Channels are standardised with the published statistics.
    """
    clip = samples[:n_samples]
    start = random.Random(derived_seed(name, "pad")).randint(0, n_samples - len(clip))
    padded = torch.zeros(n_samples)
    padded[start : start + len(clip)] = torch.from_numpy(np.ascontiguousarray(clip))
    mel = mel_spectrogram(padded)
    mean, variance = _MEL_STATISTICS.get(statistics, _MEL_STATISTICS["sims"])
    return torch.stack([(mel - m) / math.sqrt(v) for m, v in zip(mean, variance, strict=True)])


def smile_features(samples: Array) -> Array:
    """Return ComParE 2016 low-level descriptors and their deltas, [frames <= 300, 130]."""
    try:
        import opensmile
    except ImportError as error:
        raise DataError(
            "input 'smile' needs the package opensmile: pip install 'mambabench[smile]'"
        ) from error
    parts = []
    for level in ("LowLevelDescriptors", "LowLevelDescriptors_Deltas"):
        extractor = opensmile.Smile(
            feature_set=opensmile.FeatureSet.ComParE_2016,
            feature_level=getattr(opensmile.FeatureLevel, level),
        )
        parts.append(extractor.process_signal(samples, SAMPLE_RATE_HZ).to_numpy(np.float32))
    n = min(len(part) for part in parts)  # the deltas are two frames longer
    return np.concatenate([part[:n] for part in parts], axis=1)[:SMILE_FRAMES]


def _smile(root: Path, items: Sequence[Utterance]) -> tuple[MakeInput, Collate, int]:
    """Read ComParE features, standardised with the training split's mean and variance."""
    features = {item.name: smile_features(read_audio(wav_path(root, item))) for item in items}
    train = [features[item.name] for item in items if item.split == "train"]
    rows = np.concatenate(train or list(features.values()))
    mean, spread = rows.mean(0), rows.std(0)
    spread[spread == 0] = 1

    def make(_root: Path, of: Sequence[Utterance], i: int) -> Array:
        out: Array = ((features[of[i].name] - mean) / spread).astype(np.float32)
        return out

    def collate(part: Sequence[Any]) -> tuple[Tensor, Tensor]:
        x = torch.zeros(len(part), SMILE_FRAMES, rows.shape[1])
        padding = torch.ones(len(part), SMILE_FRAMES)
        for i, item in enumerate(part):
            x[i, : len(item.inputs)] = torch.from_numpy(item.inputs)
            padding[i, : len(item.inputs)] = 0
        return x, padding

    return make, collate, int(rows.shape[1])


def _padded(clips: Sequence[Array], n_samples: int) -> tuple[Tensor, Tensor]:
    """Return (samples [n, n_samples], mask): clips padded with zeros, as published to 6 s."""
    x, mask = torch.zeros(len(clips), n_samples), torch.zeros(len(clips), n_samples)
    for i, clip in enumerate(clips):
        x[i, : len(clip)] = torch.from_numpy(clip)
        mask[i, : len(clip)] = 1
    return x, mask.long()


def _raw(settings: MmmlSettings) -> tuple[MakeInput, Collate, int]:
    if settings.audio_dir is None:
        raise ProtocolError("input 'raw' needs audio_dir, a local model directory")

    def make(root: Path, of: Sequence[Utterance], i: int) -> Array:
        return samples_of(root, (of[i],), settings.max_samples)

    def collate(part: Sequence[Any]) -> tuple[Tensor, Tensor]:
        return _padded([item.inputs for item in part], settings.max_samples)

    return make, collate, 0


def _tokens(settings: MmmlSettings) -> tuple[MakeInput, Collate, int]:
    """Read token ids and samples, and those of the context where the variant has one."""

    if settings.text_dir is None:
        raise ProtocolError("input 'tokens' needs text_dir, a local model directory")
    if settings.audio_dir is None:
        raise ProtocolError("input 'tokens' needs audio_dir, a local model directory")
    tokenise = hugging_face.load_tokenizer(Path(settings.text_dir), settings.max_tokens)

    def make(root: Path, of: Sequence[Utterance], i: int) -> tuple[Any, ...]:
        before = context_of(of, i, settings.text_context, settings.audio_context)
        text = of[i].text
        if settings.joined_context and before.text:
            text = f"{before.text}</s>{text}"
        now = (text, samples_of(root, (of[i],), settings.max_samples))
        if not settings.context:
            return (now,)
        return now, (before.text, samples_of(root, before.audio, settings.max_samples))

    def collate(part: Sequence[Any]) -> tuple[Any, ...]:
        out = []
        for k in range(len(part[0].inputs)):
            ids, mask = tokenise([item.inputs[k][0] for item in part])
            audio, audio_mask = _padded([item.inputs[k][1] for item in part], settings.max_samples)
            out.append((ids, mask, audio, audio_mask))
        return tuple(out)

    return make, collate, 0


def samples_of(root: Path, items: Sequence[Utterance], max_samples: int) -> Array:
    """Return the normalised samples of clips one after the other, at most `max_samples`."""
    if not items:
        return np.zeros(0, np.float32)
    joined = np.concatenate([read_audio(wav_path(root, item)) for item in items])
    return normalised(joined[:max_samples])
