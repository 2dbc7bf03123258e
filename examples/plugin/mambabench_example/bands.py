"""The encoder itself, imported when it is used."""

import torch

from mambabench.models.encoder import LoadedEncoder
from mambabench.models.entry import EncoderEntry, LoadRequest
from mambabench.models.loading import known_options, serve

BANDS, HOP = 64, 800  # 50 ms at 16 kHz


class Bands(torch.nn.Module):
    """Log energies of 64 bands. The layer axis has length 1: there are no hidden states."""

    def scene(self, audio: torch.Tensor, layers: tuple[int, ...] | None = None) -> torch.Tensor:
        """Return [n_clips, 1, 64] of audio [n_clips, n_samples]."""
        return self.timestamps(audio)[0].mean(dim=1)

    def timestamps(
        self, audio: torch.Tensor, layers: tuple[int, ...] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return [n_clips, n_frames, 1, 64] and the frames' centres in milliseconds."""
        n_frames = max(1, audio.shape[1] // HOP)
        audio = torch.nn.functional.pad(audio, (0, max(0, HOP - audio.shape[1])))
        frames = audio[:, : n_frames * HOP].reshape(len(audio), n_frames, HOP)
        power = torch.fft.rfft(frames).abs().square()[:, :, : 6 * BANDS]
        energy = power.reshape(len(audio), n_frames, BANDS, 6).sum(dim=3).add(1e-6).log()
        times = torch.arange(n_frames, device=audio.device) * 50.0 + 25.0
        return energy[:, :, None], times.expand(len(audio), -1)


def load(entry: EncoderEntry, request: LoadRequest) -> LoadedEncoder:
    """Return the encoder; it has no options and no weights."""
    known_options(request, (), entry)
    return serve(entry, request, Bands(), lambda model: model, {"hop_ms": 50.0})
