"""What the training loaders of SSAMBA and AuM do to a clip, given the draws.

Order: mixup of waves, fbank, cut or pad, frequency mask, time mask, normalisation, noise and roll.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from mambabench.models.encoders.frontends import KaldiFbank, SsamLogMel, fit_frames, normalise_fbank

__all__ = [
    "Draws",
    "FbankSettings",
    "StreamDraws",
    "fbank_of",
    "mask_span",
    "mix_waves",
    "soft_labels",
]

Array = npt.NDArray[Any]


class Draws(Protocol):
    """The random numbers that a clip needs, in the order of the calls."""

    def mixed(self) -> float:
        """Return the number in [0, 1) that is compared with the mixup rate."""

    def partner(self, n: int) -> int:
        """Return the clip to mix in, one of `n`."""

    def share(self) -> float:
        """Return the first clip's share, Beta(10, 10)."""

    def span(self) -> float:
        """Return a number in [0, 1) for a mask's width or start."""

    def noise(self, shape: tuple[int, ...]) -> Array:
        """Return numbers in [0, 1), float32."""

    def loudness(self) -> float:
        """Return the number in [0, 1) that scales the noise."""

    def roll(self) -> int:
        """Return frames to roll by, -10 to 9."""


@dataclass
class StreamDraws:
    """Draws of one random stream."""

    rng: np.random.Generator

    def mixed(self) -> float:
        """See Draws."""
        return float(self.rng.random())

    def partner(self, n: int) -> int:
        """See Draws."""
        return int(self.rng.integers(n))

    def share(self) -> float:
        """See Draws."""
        return float(self.rng.beta(10, 10))

    def span(self) -> float:
        """See Draws."""
        return float(self.rng.random())

    def noise(self, shape: tuple[int, ...]) -> Array:
        """See Draws."""
        return self.rng.random(shape, np.float32)

    def loudness(self) -> float:
        """See Draws."""
        return float(self.rng.random())

    def roll(self) -> int:
        """See Draws."""
        return int(self.rng.integers(-10, 10))


@dataclass(frozen=True)
class FbankSettings:
    """How a wave becomes the model's input."""

    n_frames: int  # the fbank is cut or padded to so many
    mean: float
    std: float
    freqm: int = 0  # widest frequency mask, bands
    timem: int = 0  # widest time mask, frames
    noise: bool = False
    n_mels: int = 128
    hop_ms: float = 10.0
    ssam: bool = False  # SSAM's log-mels, standardised per clip, instead of fbanks
    frontends: dict[int, KaldiFbank] = field(default_factory=dict, compare=False, repr=False)

    def frontend(self, rate: int) -> KaldiFbank:
        """Return the front-end for a sample rate; the file's own, as the authors pass it on."""
        if rate not in self.frontends:
            self.frontends[rate] = KaldiFbank(rate, self.n_mels, self.hop_ms)
        return self.frontends[rate]


def mix_waves(first: torch.Tensor, second: torch.Tensor | None, share: float) -> torch.Tensor:
    """Return the wave [channels, n] that goes into the fbank: without its mean, or a mixture.

    Each wave loses its own mean (over all channels); the second is cut or padded with zeros to the
    first's length; the mixture loses its mean again.
    """
    first = first - first.mean()
    if second is None:
        return first
    second = second - second.mean()
    if second.shape[1] != first.shape[1]:
        fitted = torch.zeros(1, first.shape[1], dtype=first.dtype)
        n = min(first.shape[1], second.shape[1])
        fitted[0, :n] = second[0, :n]
        second = fitted
    mixed = share * first + (1 - share) * second
    return mixed - mixed.mean()


def soft_labels(
    first: tuple[int, ...], second: tuple[int, ...] | None, share: float, n_classes: int
) -> torch.Tensor:
    """Return targets [n_classes] float32: 1 each, or the shares of a mixture added up."""
    out = np.zeros(n_classes)
    if second is None:
        out[list(first)] = 1.0
    else:
        for label in first:
            out[label] += share
        for label in second:
            out[label] += 1.0 - share
    return torch.from_numpy(out).float()


def mask_span(width: int, size: int, draws: Draws) -> tuple[int, int]:
    """Return (first, end) of a mask: torchaudio's rule, with a width and a start per mask."""
    wide = draws.span() * width
    start = draws.span() * (size - wide)
    return math.floor(start), math.floor(start) + math.floor(wide)


def fbank_of(
    wave: torch.Tensor, rate: int, settings: FbankSettings, draws: Draws | None
) -> torch.Tensor:
    """Return the normalised fbank [n_frames, n_mels] of a mean-free wave [channels, n].

    The first channel is heard. `draws` None: no augmentation.
    """
    if settings.ssam:
        fbank = fit_frames(SsamLogMel()(wave[:1])[0], settings.n_frames)
    else:
        fbank = settings.frontend(rate)(wave[:1], subtract_mean=False)[0]
        fbank = fit_frames(fbank, settings.n_frames)
    if draws is not None:
        # float32 as in the authors' transform: the products decide where a mask ends
        if settings.freqm:
            first, end = mask_span(settings.freqm, fbank.shape[1], draws)
            fbank[:, first:end] = 0.0
        if settings.timem:
            first, end = mask_span(settings.timem, fbank.shape[0], draws)
            fbank[first:end] = 0.0
    if not settings.ssam:
        fbank = normalise_fbank(fbank, settings.mean, settings.std)
    if draws is not None and settings.noise:
        noise = torch.from_numpy(np.ascontiguousarray(draws.noise(tuple(fbank.shape))))
        fbank = fbank + noise * draws.loudness() / 10
        fbank = torch.roll(fbank, draws.roll(), 0)
    return fbank
