"""openSMILE's eGeMAPS v02, rules without learning: 88 functionals of windows of one second."""

from __future__ import annotations

import numpy as np
import torch

from mambabench.hear_api.windows import Embed, windowed


def _load(_: str) -> Embed:
    import opensmile

    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)

    def embed(windows: torch.Tensor) -> torch.Tensor:
        rows = [smile.process_signal(one, 16000).to_numpy() for one in windows.cpu().numpy()]
        return torch.from_numpy(np.nan_to_num(np.concatenate(rows))).float()

    return embed


load_model, get_scene_embeddings, get_timestamp_embeddings = windowed(
    None, 16000, 1.0, 88, hop_ms=500, load=_load
)
