"""The log-mel front end of a network that is given as a file, by its numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from mambabench.errors import EncoderError, nearest_names

__all__ = ["LogMel"]

SCALES = ("htk", "slaney", "bins")


@dataclass(frozen=True)
class LogMel:
    """Numbers of a log-mel spectrogram; frames are not padded beyond the window given."""

    n_fft: int
    frame_samples: int
    hop_samples: int
    n_mels: int
    f_min: float = 0.0
    f_max: float = 0.0  # 0: half the sample rate
    scale: str = "htk"  # or "slaney" (its area normalised), or "bins": corners on whole bins
    window: str = "hann"  # or "none"
    log: str = "ln"  # or "log10", "db"
    floor: float = 1e-10  # power below it counts as it
    divide_by_n_fft: bool = False  # of the power
    partial: bool = False  # a last frame that the signal fills in part counts, filled with zeros

    def __post_init__(self) -> None:
        for name, value, known in (
            ("scale", self.scale, SCALES),
            ("window", self.window, ("hann", "none")),
            ("log", self.log, ("ln", "log10", "db")),
        ):
            if value not in known:
                raise EncoderError(
                    f"logmel.{name} = {value!r} is not one of {', '.join(known)}"
                    f"{nearest_names(str(value), known)}"
                )
        if not 0 < self.frame_samples <= self.n_fft or self.hop_samples < 1 or self.n_mels < 1:
            raise EncoderError(
                f"logmel with frame_samples = {self.frame_samples}, n_fft = {self.n_fft}, "
                f"hop_samples = {self.hop_samples}, n_mels = {self.n_mels}: frames are 1 to n_fft "
                "samples long, hop and bands at least 1"
            )

    def __call__(self, audio: torch.Tensor, sample_rate: int) -> torch.Tensor:
        """Return float32 [n, n_frames, n_mels] of float32 [n, n_samples]."""
        size, hop = self.frame_samples, self.hop_samples
        lack = size - audio.shape[1]
        if self.partial and lack < 0:
            lack = lack % hop
        frames = F.pad(audio, (0, max(0, lack))).double().unfold(1, size, hop)
        if self.window == "hann":
            frames = frames * torch.hann_window(size, dtype=torch.float64)
        power = torch.fft.rfft(frames, self.n_fft).abs().square()
        if self.divide_by_n_fft:
            power = power / self.n_fft
        mel = (power @ self.bank(sample_rate).T).clamp_min(self.floor)
        logs = mel.log() if self.log == "ln" else mel.log10()
        found: torch.Tensor = (logs * 10 if self.log == "db" else logs).float()
        return found

    def bank(self, sample_rate: int) -> torch.Tensor:
        """Return the triangles, float64 [n_mels, n_fft // 2 + 1]."""
        top = self.f_max or sample_rate / 2
        to_mel, to_hz = (_slaney_mel, _slaney_hz) if self.scale == "slaney" else (_mel, _hz)
        mels = torch.linspace(to_mel(self.f_min), to_mel(top), self.n_mels + 2, dtype=torch.float64)
        corners = torch.tensor([to_hz(float(m)) for m in mels], dtype=torch.float64)
        bins = torch.arange(self.n_fft // 2 + 1, dtype=torch.float64)
        if self.scale == "bins":
            corners = ((self.n_fft + 1) * corners / sample_rate).floor()
        else:
            bins = bins * sample_rate / self.n_fft
        low, mid, high = (corners[i : i + self.n_mels, None] for i in range(3))
        rise = (bins - low) / (mid - low)
        fall = (high - bins) / (high - mid)
        triangles = torch.minimum(rise, fall).nan_to_num(0.0, 0.0, 0.0).clamp(0.0, 1.0)
        return triangles * 2 / (high - low) if self.scale == "slaney" else triangles


def _mel(hz: float) -> float:
    return 2595 * math.log10(1 + hz / 700)


def _hz(mel: float) -> float:
    return 700 * (10 ** (mel / 2595) - 1)


def _slaney_mel(hz: float) -> float:
    """Linear below 1 kHz, logarithmic above (Slaney's Auditory Toolbox)."""
    return hz * 3 / 200 if hz < 1000 else 15 + math.log(hz / 1000) * 27 / math.log(6.4)


def _slaney_hz(mel: float) -> float:
    return mel * 200 / 3 if mel < 15 else 1000 * math.exp((mel - 15) * math.log(6.4) / 27)
