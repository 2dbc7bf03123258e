"""A provider to start from: a commented HEAR module that passes the check."""

from __future__ import annotations

from pathlib import Path

from mambabench.errors import EncoderError

__all__ = ["TEMPLATE", "write_template"]

TEMPLATE = '''"""My encoder, as a module of the HEAR API. Everything that is yours is marked."""

import torch

from mambabench.hear_api.windows import windowed

SAMPLE_RATE = 16000  # yours: 16000, 22050, 32000, 44100 or 48000
WINDOW_S = 1.0  # yours: the seconds of audio that your network hears at once
SIZE = 64  # yours: values of one embedding


class Network(torch.nn.Module):
    """Yours: windows of audio [n, n_samples] in [-1, 1] to embeddings [n, SIZE]."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)  # random weights need a seed
        self.weight = torch.nn.Parameter(torch.randn(257, SIZE, generator=generator) / 16)

    def forward(self, windows):
        hann = torch.hann_window(512, device=windows.device)
        spectrum = torch.stft(windows, 512, 160, window=hann, return_complex=True).abs()
        return (spectrum + 1e-3).log().mean(2) @ self.weight


def load(checkpoint):
    """Yours: `checkpoint` is what stands after "@" in --encoder FILE.py@CHECKPOINT, else ""."""
    network = Network()
    if checkpoint:
        network.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    return network.eval()


# windows every 50 ms around their timestamps; a scene is the mean of half-overlapping windows.
# A network that takes clips of any length needs no windows: write the three functions yourself.
load_model, get_scene_embeddings, get_timestamp_embeddings = windowed(
    None, SAMPLE_RATE, WINDOW_S, SIZE, hop_ms=50, load=load
)
'''


def write_template(path: Path) -> None:
    """Write the template to a new file; EncoderError where it exists or is no .py file."""
    if path.suffix != ".py":
        raise EncoderError(f"{path}: a provider is a Python file, so its name must end in .py")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE)
    except FileExistsError as error:
        raise EncoderError(f"{path} exists: choose another name, or move it away") from error
    except OSError as error:
        raise EncoderError(f"{path} cannot be written: {error}") from error
