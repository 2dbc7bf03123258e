"""Turn an encoder of ours into a HEAR module: the one factory behind every provider."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch

from mambabench.errors import EncoderError
from mambabench.models.encoder import LoadedEncoder
from mambabench.models.registry import load_encoder

__all__ = ["HearFunctions", "HearModel", "provider"]


class HearModel(torch.nn.Module):
    """An encoder with the attributes that HEAR asks of a model.

    The functions of the HEAR API live at module level; this object only carries the encoder, its
    weights (so that ``.to(device)`` moves them) and the declared sizes.
    """

    def __init__(self, encoder: LoadedEncoder) -> None:
        super().__init__()
        self.network = encoder.model
        self.encoder = encoder
        self.sample_rate = encoder.sample_rate_hz
        self.scene_embedding_size = encoder.scene_embedding_size
        self.timestamp_embedding_size = encoder.timestamp_embedding_size
        self.eval()

    def train(self, mode: bool = True) -> HearModel:
        """Stay in evaluation mode: the published kit never calls ``eval()``."""
        super().train(False)
        return self

    def device(self) -> torch.device:
        """Return where the weights are now."""
        if isinstance(self.network, torch.nn.Module):  # not one that runs in another interpreter
            for tensor in (*self.network.parameters(), *self.network.buffers()):
                return tensor.device
        return torch.device(self.encoder.device)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Return the scene embeddings of `audio` [n_sounds, n_samples]."""
        return get_scene_embeddings(audio, self)


class _LoadModel(Protocol):
    def __call__(self, model_file_path: str = "", **options: Any) -> HearModel: ...


class _Scene(Protocol):
    def __call__(self, audio: torch.Tensor, model: HearModel) -> torch.Tensor: ...


class _Timestamps(Protocol):
    def __call__(
        self, audio: torch.Tensor, model: HearModel
    ) -> tuple[torch.Tensor, torch.Tensor]: ...


class HearFunctions(NamedTuple):
    """What a provider module binds to its three names."""

    load_model: _LoadModel
    get_scene_embeddings: _Scene
    get_timestamp_embeddings: _Timestamps


def provider(module_name: str) -> HearFunctions:
    """Return the HEAR functions of the encoder named like the last part of `module_name`.

    A provider is three lines: a docstring, the import of this function, and
    ``load_model, get_scene_embeddings, get_timestamp_embeddings = provider(__name__)``.
    """
    name = module_name.rpartition(".")[2]

    def load_model(model_file_path: str = "", **options: Any) -> HearModel:
        """Load the encoder with the checkpoint `model_file_path`; options go to the encoder."""

        return HearModel(load_encoder(name, model_file_path or None, **options))

    return HearFunctions(load_model, get_scene_embeddings, get_timestamp_embeddings)


def get_scene_embeddings(audio: torch.Tensor, model: HearModel) -> torch.Tensor:
    """Return float32 [n_sounds, scene_embedding_size] on the device of `audio`.

    `audio` is mono float32 in [-1, 1], [n_sounds, n_samples], at the model's sample rate.
    """
    embeddings = model.encoder.scene(_audio(audio, model), None)
    return embeddings[:, 0].to(audio.device)


def get_timestamp_embeddings(
    audio: torch.Tensor, model: HearModel
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return float32 [n_sounds, n_timestamps, timestamp_embedding_size] and the centres of the
    frames, float32 [n_sounds, n_timestamps] in milliseconds, on the device of `audio`."""
    embeddings, times_ms = model.encoder.timestamps(_audio(audio, model), None)
    return embeddings[:, :, 0].to(audio.device), times_ms.to(audio.device)


def _audio(audio: torch.Tensor, model: HearModel) -> torch.Tensor:
    if audio.ndim != 2:
        raise EncoderError(
            f"audio has shape {list(audio.shape)}; HEAR passes [n_sounds, n_samples], mono"
        )
    return audio.to(device=model.device(), dtype=torch.float32)
