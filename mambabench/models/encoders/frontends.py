"""Front-ends: the spectrograms that the encoders were trained on, batched, on the device.

All are float32 `torch.nn.Module`s without parameters; their tables are buffers outside of the
state dict, so that a checkpoint's keys are the authors' own. Long clips are worked off in blocks
of frames: apart from input and output, memory does not grow with the clip.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

__all__ = [
    "NORMALISATIONS",
    "EpicLogMel",
    "KaldiFbank",
    "SsamLogMel",
    "fit_frames",
    "htk_filters",
    "kaldi_filters",
    "normalise_fbank",
    "standardise_clips",
]

FLOOR = 1.1920929e-07  # float32 epsilon: the floor of both logarithms
# dataset -> mean and standard deviation of its log energies, as the authors computed them
NORMALISATIONS: dict[str, tuple[float, float]] = {
    "audioset": (-4.2677393, 4.5689974),
    "vggsound": (-5.0767093, 4.4533687),
    "voxceleb": (-3.7614744, 4.2011642),
    "speechcommands": (-6.845978, 5.5654526),
    "esc50": (-6.6268077, 5.358466),
    "urbansound8k": (-5.138443946838379, 4.229961395263672),
}
BLOCK_FRAMES = 4096  # frames transformed at once


def htk_filters(
    n_freqs: int, low_hz: float, high_hz: float, n_mels: int, rate: int
) -> torch.Tensor:
    """Return triangular filters on the HTK mel scale, peak 1, float32 [n_freqs, n_mels].

    Triangles are straight in Hz between corners that are equidistant in mel.
    """

    def mel(hz: float) -> float:
        return 2595.0 * math.log10(1.0 + hz / 700.0)

    bins_hz = torch.linspace(0, rate // 2, n_freqs)
    corners_mel = torch.linspace(mel(low_hz), mel(high_hz), n_mels + 2)
    corners_hz = 700.0 * (10.0 ** (corners_mel / 2595.0) - 1.0)
    widths = corners_hz.diff()
    slopes = corners_hz[None, :] - bins_hz[:, None]
    down = -slopes[:, :-2] / widths[:-1]
    up = slopes[:, 2:] / widths[1:]
    return torch.minimum(down, up).clamp_min(0.0)


def kaldi_filters(n_mels: int, n_fft: int, rate: float, low_hz: float = 20.0) -> torch.Tensor:
    """Return Kaldi's filters up to Nyquist, float32 [n_mels, n_fft // 2] (no Nyquist column).

    Triangles are straight in mel = 1127 ln(1 + f / 700). Narrow filters at low frequencies can be
    all zero: at 16 kHz and 512 points the fourth one is, and its feature is the constant log floor.
    """

    def mel(hz: float) -> float:
        return 1127.0 * math.log(1.0 + hz / 700.0)

    low = mel(low_hz)
    step = (mel(0.5 * rate) - low) / (n_mels + 1)
    index = torch.arange(n_mels)[:, None]
    left, centre, right = (low + (index + k) * step for k in (0.0, 1.0, 2.0))
    bins_hz = (rate / n_fft) * torch.arange(n_fft // 2)
    bins_mel = (1127.0 * (1.0 + bins_hz / 700.0).log())[None, :]
    rising = (bins_mel - left) / (centre - left)
    falling = (right - bins_mel) / (right - centre)
    return torch.minimum(rising, falling).clamp_min(0.0)


def standardise_clips(features: torch.Tensor, epsilon: float = 1e-8) -> torch.Tensor:
    """Bring each clip to mean 0 and unbiased standard deviation 1 over time and frequency.

    `features` [n_clips, n_frames, n_mels]; a constant clip becomes exactly 0: its mean, summed in
    float64, is the constant itself, which a float32 sum can miss by 1e-6, or 100 epsilons.
    """
    mean = features.mean(dim=(1, 2), keepdim=True, dtype=torch.float64)
    centred = features - mean.to(features.dtype)
    total = centred.square().sum(dim=(1, 2), keepdim=True, dtype=torch.float64)
    n_others = features.shape[1] * features.shape[2] - 1
    std = (total / n_others).sqrt().to(features.dtype)
    return centred / (std + epsilon)


def fit_frames(features: torch.Tensor, n_frames: int, value: float = 0.0) -> torch.Tensor:
    """Cut [..., t, n_mels] to `n_frames` frames or pad it with `value` at its end."""
    missing = n_frames - features.shape[-2]
    if missing <= 0:
        return features[..., :n_frames, :]
    return F.pad(features, (0, 0, 0, missing), value=value)


def normalise_fbank(features: torch.Tensor, mean: float, std: float) -> torch.Tensor:
    """Return (features - mean) / (2 std): AST's rule, kept by SSAMBA and AuM."""
    return (features - mean) / (2 * std)


class _Framed(torch.nn.Module):
    """Log filterbank energies of overlapping frames."""

    window: torch.Tensor
    filters: torch.Tensor

    def __init__(self, rate: int, n_fft: int, hop: int) -> None:
        super().__init__()
        self.sample_rate_hz, self.n_fft, self.hop = rate, n_fft, hop

    def _spectra(self, frames: torch.Tensor) -> torch.Tensor:
        """Turn windowed frames [..., n_fft] into log energies [..., n_mels]."""
        raise NotImplementedError

    def _blocks(self, audio: torch.Tensor, length: int) -> torch.Tensor:
        """Cut [n_clips, n] into frames of `length` every `hop` and transform them blockwise."""
        frames = audio.unfold(1, length, self.hop)  # a view: [n_clips, n_frames, length]
        step = max(1, BLOCK_FRAMES // max(1, audio.shape[0]))
        parts = [self._spectra(block) for block in torch.split(frames, step, dim=1)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class SsamLogMel(_Framed):
    """SSAM's log-mel: 25 ms periodic Hann windows every 10 ms, centred, 80 HTK mels, 50-8000 Hz.

    The feature is ln(power + 1.19e-7); `forward` standardises it per clip, `raw` does not.
    """

    def __init__(self) -> None:
        super().__init__(rate=16000, n_fft=400, hop=160)
        self.register_buffer("window", torch.hann_window(400), persistent=False)
        filters = htk_filters(201, 50.0, 8000.0, 80, 16000)
        self.register_buffer("filters", filters, persistent=False)

    def _spectra(self, frames: torch.Tensor) -> torch.Tensor:
        power = torch.fft.rfft(frames * self.window).abs().square()
        return torch.log(power @ self.filters + FLOOR)

    def n_frames(self, n_samples: int) -> int:
        """Return how many frames a clip gives."""
        return max(n_samples, self.n_fft // 2 + 1) // self.hop + 1

    def raw(self, audio: torch.Tensor) -> torch.Tensor:
        """Return log-mels [n_clips, n_samples // 160 + 1, 80] of audio [n_clips, n_samples].

        The edges are reflected; a clip of 200 samples or fewer, too short for that, is extended
        with zeros to 201 first.
        """
        if audio.shape[1] <= self.n_fft // 2:
            audio = F.pad(audio, (0, self.n_fft // 2 + 1 - audio.shape[1]))
        half = self.n_fft // 2
        return self._blocks(F.pad(audio[:, None], (half, half), mode="reflect")[:, 0], self.n_fft)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Return standardised log-mels [n_clips, n_frames, 80]."""
        return standardise_clips(self.raw(audio))


class KaldiFbank(_Framed):
    """Kaldi's filterbank as AuM and SSAMBA call it: 25 ms Hann windows, no dither, log energies.

    Any sample rate: the Fourier transform has the next power of two points.
    """

    def __init__(
        self, sample_rate_hz: int = 16000, n_mels: int = 128, hop_ms: float = 10.0
    ) -> None:
        self.frame = int(sample_rate_hz * 0.025)
        n_fft = 1 << (self.frame - 1).bit_length()
        super().__init__(sample_rate_hz, n_fft, int(sample_rate_hz * hop_ms * 0.001))
        window = torch.hann_window(self.frame, periodic=False)
        self.register_buffer("window", window, persistent=False)
        filters = kaldi_filters(n_mels, n_fft, float(sample_rate_hz)).T.contiguous()
        self.register_buffer("filters", filters, persistent=False)

    def _spectra(self, frames: torch.Tensor) -> torch.Tensor:
        frames = frames - frames.mean(dim=-1, keepdim=True)
        previous = torch.cat((frames[..., :1], frames[..., :-1]), dim=-1)
        frames = (frames - 0.97 * previous) * self.window
        power = torch.fft.rfft(frames, n=self.n_fft).abs().square()[..., :-1]
        return torch.log((power @ self.filters).clamp_min(FLOOR))

    def forward(self, audio: torch.Tensor, subtract_mean: bool = True) -> torch.Tensor:
        """Return log energies [n_clips, 1 + (n_samples - frame) // hop, n_mels].

        `subtract_mean` takes each clip's mean off first, as the authors' data loaders do (the
        s3prl wrapper of SSAMBA does not). A clip shorter than one frame is extended with zeros.
        """
        if subtract_mean:
            audio = audio - audio.mean(dim=1, keepdim=True)
        if audio.shape[1] < self.frame:
            audio = F.pad(audio, (0, self.frame - audio.shape[1]))
        return self._blocks(audio, self.frame)


class EpicLogMel(_Framed):
    """The log-mel of AuM's EPIC-SOUNDS models: 24 kHz, 10 ms windows every 5 ms, magnitudes.

    librosa's conventions: 2048 points, the window centred in the frame, edges padded with zeros,
    128 HTK mels without area normalisation, ln(magnitude + 1e-6).
    """

    def __init__(self) -> None:
        super().__init__(rate=24000, n_fft=2048, hop=120)
        window = F.pad(torch.hann_window(240), (904, 904))
        self.register_buffer("window", window, persistent=False)
        filters = htk_filters(1025, 0.0, 12000.0, 128, 24000)
        self.register_buffer("filters", filters, persistent=False)

    def _spectra(self, frames: torch.Tensor) -> torch.Tensor:
        return torch.log(torch.fft.rfft(frames * self.window).abs() @ self.filters + 1e-6)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Return log magnitudes [n_clips, n_samples // 120 + 1, 128]."""
        return self._blocks(F.pad(audio, (self.n_fft // 2, self.n_fft // 2)), self.n_fft)
