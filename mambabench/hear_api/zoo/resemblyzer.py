"""Resemblyzer's voice encoder (GE2E), from the package's weights: an LSTM over 40 mel bands."""

from __future__ import annotations

import torch

from mambabench.hear_api.mel_bank import LogMel
from mambabench.hear_api.windows import windowed
from mambabench.hear_api.zoo.packages import package_file

WEIGHTS = package_file("resemblyzer", "pretrained.pt")
BANK = LogMel(400, 400, 160, 40, scale="slaney").bank(16000).float()


class VoiceEncoder(torch.nn.Module):
    """Three LSTM layers, a projection and unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = torch.nn.Linear(256, 256)
        state = torch.load(WEIGHTS, map_location="cpu", weights_only=True)["model_state"]
        self.load_state_dict({k: v for k, v in state.items() if not k.startswith("similarity")})

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Embed [n, 25600] samples, raised to -30 dBFS where they are fainter."""
        rms = audio.square().mean(1, keepdim=True).sqrt().clamp(min=1e-8)
        audio = audio * (10 ** (-30 / 20) / rms).clamp(min=1.0, max=1e4)
        hann = torch.hann_window(400, device=audio.device)
        spectrum = torch.stft(
            audio, 400, 160, window=hann, return_complex=True, pad_mode="constant"
        )
        mel = (BANK.to(audio.device) @ spectrum.abs().square())[..., :160]
        hidden = self.lstm(mel.transpose(1, 2))[1][0][-1]
        rows: torch.Tensor = torch.nn.functional.normalize(self.linear(hidden).relu(), dim=1)
        return rows


load_model, get_scene_embeddings, get_timestamp_embeddings = windowed(
    None, 16000, 1.6, 256, scene_hop_s=0.77, load=lambda _: VoiceEncoder()
)
