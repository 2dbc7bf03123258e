"""What the checks call: a provider with its loaded model, and what a check came to."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from mambabench.hear_api.adapters import check_scene, check_timestamps
from mambabench.hear_api.provider import Provider, foreign_code, in_evaluation

__all__ = ["Outcome", "Subject", "Verdict"]

Verdict = Literal["pass", "warn", "fail", "not run"]


class Outcome(NamedTuple):
    """What one check found, before it has its name; see `Check`."""

    status: Verdict
    message: str
    value: float | None = None
    limit: float | None = None


class Subject:
    """A provider and its loaded model; every call is checked for type and shape.

    A width of None is not known: the model does not declare it rightly.
    """

    def __init__(
        self,
        provider: Provider,
        model: Any,
        device: str,
        long_s: float,
        *,
        sample_rate_hz: int,
        scene_size: int | None,
        timestamp_size: int | None,
    ) -> None:
        self.provider, self.model, self.device, self.long_s = provider, model, device, long_s
        self.sample_rate_hz = sample_rate_hz
        self.scene_size, self.timestamp_size = scene_size, timestamp_size
        self.hop_ms: float | None = None
        self._random = np.random.RandomState(7)

    def noise(self, n_clips: int, duration_s: float) -> torch.Tensor:
        """Return uniform noise in [-1, 1], float32 [n_clips, n_samples] on the device."""
        n_samples = int(duration_s * self.sample_rate_hz)
        noise = self._random.uniform(-1.0, 1.0, (n_clips, n_samples)).astype(np.float32)
        return torch.from_numpy(noise).to(self.device)

    def clips(self, n_clips: int, duration_s: float) -> torch.Tensor:
        """Return clips of different levels and colours: noise, tones, clicks and silence."""
        audio = self.noise(n_clips, duration_s)
        t = torch.arange(audio.shape[1], device=audio.device) / self.sample_rate_hz
        for i in range(n_clips):
            audio[i] *= 10.0 ** (-0.5 * i)
            if i % 2:
                audio[i] += 0.3 * torch.sin(2 * torch.pi * 220.0 * i * t)
        audio[-1] = 0.0
        return audio.clamp(-1.0, 1.0)

    def scene(self, audio: torch.Tensor) -> torch.Tensor:
        """Return the scene embeddings on the CPU, without gradients."""
        return self._fetch(self.raw_scene(audio))

    def timestamps(self, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the timestamp embeddings and times on the CPU, without gradients."""
        embeddings, times_ms = self.raw_timestamps(audio)
        return self._fetch(embeddings), self._fetch(times_ms)

    def _fetch(self, tensor: torch.Tensor) -> torch.Tensor:
        with self._call(f"its output on {tensor.device} was read"):
            return tensor.detach().cpu()

    def raw_scene(self, audio: torch.Tensor) -> torch.Tensor:
        """Return the scene embeddings as they come, type and shape checked."""
        with self._call(_doing("get_scene_embeddings", audio)):
            result = self.provider.get_scene_embeddings(audio, self.model)
        check_scene(self.provider.name, result, len(audio), self.scene_size)
        return result  # type: ignore[no-any-return]

    def raw_timestamps(self, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the timestamp embeddings and times as they come, types and shapes checked."""
        with self._call(_doing("get_timestamp_embeddings", audio)):
            result = self.provider.get_timestamp_embeddings(audio, self.model)
        check_timestamps(self.provider.name, result, len(audio), self.timestamp_size)
        return result[0], result[1]

    def _call(self, doing: str) -> AbstractContextManager[None]:
        """Fence a call, but let generators run on: equal draws would hide that it draws."""
        return foreign_code(self.provider.name, doing, self.provider.folder, random_states=False)

    def to_evaluation(self) -> None:
        """Put the model into evaluation mode, where it has such a thing."""
        in_evaluation(self.provider, self.model)

    def duration_ms(self, audio: torch.Tensor) -> float:
        """Return the length of the clips in milliseconds."""
        return 1000.0 * audio.shape[1] / self.sample_rate_hz


def _doing(function: str, audio: torch.Tensor) -> str:
    return f"{function} was given {len(audio)} x {audio.shape[1]} samples"
