"""Google's speech embedding, the front end of openWakeWord: 96 values of 76 frames of 10 ms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from mambabench.hear_api.graph_settings import GraphSettings
from mambabench.hear_api.tflite_file import TfliteGraph
from mambabench.hear_api.windows import Windows, functions
from mambabench.hear_api.zoo.packages import package_file

MEL = package_file("pyopen_wakeword", "models/melspectrogram.tflite")
EMBEDDING = package_file("pyopen_wakeword", "models/embedding_model.tflite")
WINDOWS = Windows(
    16000, 12560, 96, scene_hop_samples=1600, scene_centred=True, scene=("mean", "max"), batch=16
)


def _load(_: str) -> Callable[[torch.Tensor], torch.Tensor]:
    mel, net = (TfliteGraph(GraphSettings(file, WINDOWS)) for file in (MEL, EMBEDDING))

    def embed(windows: torch.Tensor) -> torch.Tensor:
        samples = (windows * 32767).cpu().numpy()  # the scale of 16-bit samples
        # one by one: it cuts what lies 80 dB below the loudest of all that it is given
        found = [mel({mel.first_input: samples[i : i + 1]})[0] for i in range(len(samples))]
        bands = np.concatenate(found)  # [n, 1, 76, 32]
        (rows,) = net({net.first_input: bands[:, 0, :76, :, None] / 10 + 2})
        return torch.from_numpy(rows.reshape(len(windows), -1)).to(windows.device)

    return embed


load_model, get_scene_embeddings, get_timestamp_embeddings = functions(
    _load, WINDOWS, (MEL, EMBEDDING)
)
