"""The baseline without weights: statistics of a log-mel spectrogram."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from mambabench.errors import EncoderError
from mambabench.models.encoder import LoadedEncoder
from mambabench.models.encoders.frontends import SsamLogMel
from mambabench.models.entry import EncoderEntry, LoadRequest
from mambabench.models.loading import known_options, serve

__all__ = ["LogMelStatistics", "load"]

HOP_FRAMES = 5  # 50 ms
NARROW, WIDE = 5, 25  # frames on each side: windows of 110 ms and 510 ms


class LogMelStatistics(torch.nn.Module):
    """80 log-mel bands, not standardised: what a classifier gets without any learning.

    Scene: mean, standard deviation and mean absolute change per 10 ms, over the clip. Timestamps
    every 50 ms: mean over 110 ms, mean and standard deviation over 510 ms around the frame, cut at
    the clip's borders.
    """

    def __init__(self) -> None:
        super().__init__()
        self.frontend = SsamLogMel()

    def scene(self, audio: torch.Tensor, layers: tuple[int, ...] | None = None) -> torch.Tensor:
        """Return [n_clips, 1, 240]."""
        features = self.frontend.raw(audio)
        mean = features.mean(dim=1)
        std = features.std(dim=1, correction=0)
        change = features.diff(dim=1).abs().mean(dim=1)
        return torch.cat((mean, std, change), dim=1)[:, None]

    def timestamps(
        self, audio: torch.Tensor, layers: tuple[int, ...] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return [n_clips, n_frames, 1, 240] and the frames' centres, 25 ms, 75 ms..."""
        features = self.frontend.raw(audio).double()
        n_samples, rate = audio.shape[1], self.frontend.sample_rate_hz
        n_frames = max(1, (1000 * n_samples - 25 * rate) // (50 * rate) + 1)
        centres = torch.arange(n_frames, device=features.device) * HOP_FRAMES + 2
        narrow, _ = _windowed(features, centres, NARROW)
        wide, square = _windowed(features, centres, WIDE)
        std = (square - wide.square()).clamp_min(0).sqrt()
        rows = torch.cat((narrow, wide, std), dim=2).float()[:, :, None]
        times = torch.arange(n_frames, dtype=torch.float64) * 50 + 25
        return rows, times.float().to(rows.device).expand(rows.shape[0], -1)


def _windowed(
    features: torch.Tensor, centres: torch.Tensor, half: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and mean square of float64 [n, t, d] within `half` frames of each centre."""
    last = features.shape[1]
    start = (centres - half).clamp(0, last - 1)
    stop = (centres + half + 1).clamp(1, last)
    count = (stop - start)[None, :, None]

    def mean(values: torch.Tensor) -> torch.Tensor:
        total = F.pad(values.cumsum(dim=1), (0, 0, 1, 0))
        return (total[:, stop] - total[:, start]) / count

    return mean(features), mean(features.square())


def load(entry: EncoderEntry, request: LoadRequest) -> LoadedEncoder:
    """Return the baseline; it has no weights and no options."""
    known_options(request, (), entry)
    if request.checkpoint is not None:
        raise EncoderError(f"encoder {entry.name} has no weights and takes no checkpoint")
    model = LogMelStatistics()
    return serve(entry, request, model, lambda model: model, {"hop_ms": 50.0})
