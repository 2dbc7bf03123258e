"""PESTO, self-supervised pitch: activations (384) by their confidence, and the confidence."""

from __future__ import annotations

import sys
import types
from importlib.util import find_spec

import torch

from mambabench.hear_api.windows import Embed, windowed
from mambabench.hear_api.zoo.packages import package_file

WEIGHTS = package_file("pesto", "weights/mir-1k_g7.ckpt")


def _load(_: str) -> Embed:
    absent = find_spec("torchaudio") is None
    if absent:  # it is imported, and not used for what is called here
        sys.modules["torchaudio"] = types.ModuleType("torchaudio")
    import pesto

    if absent:
        del sys.modules["torchaudio"]

    network = pesto.load_model("mir-1k_g7", step_size=50.0, sampling_rate=16000).eval()

    def embed(windows: torch.Tensor) -> torch.Tensor:
        _, confidence, _, activations = network(windows)
        sure = confidence[..., None]
        return torch.cat([activations * sure, sure], 2)[:, :40].nan_to_num()

    return embed


load_model, get_scene_embeddings, get_timestamp_embeddings = windowed(
    None, 16000, 2.0, 385, frame_s=0.05, edge_frames=5, weights_files=[WEIGHTS], load=_load
)
