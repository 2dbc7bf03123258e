"""The authors' own s3prl wrapper of SSAMBA, as it is: kept to reproduce its published scores.

It builds the backbone with RMSNorm although the checkpoints were trained with LayerNorm (biases
are dropped), applies the final norm once, does not subtract the clip's mean, and cuts the batch
into windows of ten seconds whose 99 frames stand for 100: each border drifts by one frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from mambabench.models.encoders.frontends import KaldiFbank, fit_frames, normalise_fbank
from mambabench.models.encoders.ssamba import SsambaBackbone

__all__ = ["SsambaExpert"]


class SsambaExpert(torch.nn.Module):
    """Clips of any length -> the wrapper's only hidden state [n_clips, n_frames, bands * dim]."""

    downsample_rate = 1600  # samples per frame, as the wrapper states

    def __init__(
        self,
        backbone: SsambaBackbone,
        window_s: float = 10.0,
        n_frames: int = 1000,
        strides: tuple[int, int] = (10, 10),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.frontend = KaldiFbank()
        self.window, self.n_frames, self.strides = int(window_s * 16000), n_frames, strides

    def forward(self, clips: Sequence[torch.Tensor]) -> torch.Tensor:
        """Embed mono clips [n_samples] at 16 kHz, zero-padded to the longest of the batch."""
        longest = max(len(clip) for clip in clips)
        n_windows = -(-longest // self.window)
        audio = torch.stack([F.pad(c, (0, n_windows * self.window - len(c))) for c in clips])
        features = self.frontend(audio.reshape(-1, self.window), subtract_mean=False)
        features = normalise_fbank(features, -4.2677393, 4.5689974)
        patches = self.backbone.patch_grid(fit_frames(features, self.n_frames), self.strides)
        grid = (patches.shape[2], patches.shape[3])
        tokens = self.backbone.arrange(patches, self.backbone.positions(grid))
        *_, (hidden, residual) = self.backbone.layer_states(tokens)
        final: torch.Tensor = self.backbone.norm_f(self.backbone.drop_path(hidden) + residual)[
            :, 1:
        ]
        columns = torch.unflatten(final, 1, grid).permute(0, 2, 1, 3).flatten(2)
        rows = columns.reshape(len(clips), n_windows * grid[1], -1)
        return rows[:, : len(range(0, longest, self.downsample_rate))]
