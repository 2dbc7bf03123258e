"""HEAR provider of any s3prl upstream: ``s3prl@NAME`` or ``s3prl@NAME:CHECKPOINT``.

s3prl must be installed and importable; it is never a dependency of ours. Upstreams run as they are,
in evaluation mode, at 16 kHz; all their hidden states are offered as layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mambabench.errors import EncoderError, nearest_names
from mambabench.files import sha256_file
from mambabench.hear_api.factory import HearModel, get_scene_embeddings, get_timestamp_embeddings
from mambabench.models.encoder import LoadedEncoder
from mambabench.models.entry import Setting
from mambabench.models.registry import resolve_device
from mambabench.models.weights.identity import fixed_signal, identity, weights_hash

__all__ = ["get_scene_embeddings", "get_timestamp_embeddings", "load_model"]

SAMPLE_RATE_HZ = 16000  # of every s3prl upstream
SHORTEST_SAMPLES = 800  # s3prl pads shorter clips to 50 ms

Layers = tuple[int, ...] | None


def load_model(model_file_path: str = "", device: str = "auto") -> HearModel:
    """Load the upstream `model_file_path`, "NAME" or "NAME:CHECKPOINT".

    Raises EncoderError where s3prl cannot be imported, has no such upstream, or the upstream gives
    no hidden states of one size.
    """
    name, _, checkpoint = model_file_path.partition(":")
    if not name:
        raise EncoderError("name the upstream: s3prl@NAME, such as s3prl@fbank")
    try:
        import s3prl.hub as hub
    except ImportError as error:
        raise EncoderError(
            f"s3prl cannot be imported ({error}): install it in this environment; with current "
            "versions of torch it needs the remedies in docs/adding-an-encoder.md"
        ) from error
    make = getattr(hub, name, None)
    if not callable(make):
        raise EncoderError(f"s3prl has no upstream {name!r}{nearest_names(name, vars(hub))}")
    network = make(ckpt=checkpoint) if checkpoint else make()
    if not isinstance(network, torch.nn.Module):
        raise EncoderError(f"the s3prl upstream {name!r} is no torch.nn.Module")
    device = resolve_device(device)
    reader = _Reader(name, network.to(device).eval())  # s3prl leaves it in training mode
    return HearModel(_encoder(reader, checkpoint, device))


def _encoder(reader: _Reader, checkpoint: str, device: str) -> LoadedEncoder:
    states, _ = reader.states(fixed_signal(SAMPLE_RATE_HZ).to(device))
    width = states.shape[-1]
    configuration: dict[str, Setting] = {
        "kind": "s3prl",
        "upstream": reader.name,
        "checkpoint_sha256": sha256_file(Path(checkpoint)) if checkpoint else None,
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "hop_ms": reader.hop_ms,
    }
    weights = weights_hash(
        {k: v for k, v in reader.network.state_dict().items() if isinstance(v, torch.Tensor)}
    )
    found = identity(
        weights, configuration, lambda a: reader.scene(a, None), SAMPLE_RATE_HZ, device
    )
    return LoadedEncoder(
        name="s3prl",
        label="s3prl",
        identity=found,
        model=reader.network,
        device=device,
        sample_rate_hz=SAMPLE_RATE_HZ,
        scene_embedding_size=width,
        timestamp_embedding_size=width,
        n_hidden_states=states.shape[2],
        scene=reader.scene,
        timestamps=reader.timestamps,
        configuration=configuration,
    )


@dataclass(frozen=True)
class _Reader:
    """Calls an upstream and puts its hidden states on our axes."""

    name: str
    network: Any

    @property
    def hop_ms(self) -> float:
        """Milliseconds between frames."""
        return 1000.0 * int(self.network.get_downsample_rates("hidden_states")) / SAMPLE_RATE_HZ

    @torch.no_grad()
    def states(self, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return all hidden states [n, n_frames, n_layers, width] and times [n_frames] in ms."""
        n_samples = audio.shape[1]
        if n_samples < SHORTEST_SAMPLES:
            audio = torch.nn.functional.pad(audio, (0, SHORTEST_SAMPLES - n_samples))
        output = self.network(list(audio))["hidden_states"]
        shapes = {tuple(state.shape) for state in output}
        if len(shapes) != 1:
            raise EncoderError(
                f"the s3prl upstream {self.name!r} gives hidden states of different shapes "
                f"{sorted(shapes)}: wrap it in a HEAR module that chooses some"
            )
        states = torch.stack(list(output), dim=2).float()
        # frames of what was only padding are nobody's
        centres = (torch.arange(states.shape[1], dtype=torch.float64) + 0.5) * self.hop_ms
        n_frames = max(1, int((centres <= 1000.0 * n_samples / SAMPLE_RATE_HZ).sum()))
        return states[:, :n_frames], centres[:n_frames].float()

    def _chosen(self, states: torch.Tensor, layers: Layers) -> torch.Tensor:
        n_layers = states.shape[2]
        chosen = (n_layers - 1,) if layers is None else layers
        wrong = [i for i in chosen if not -n_layers <= i < n_layers]
        if wrong:
            raise EncoderError(
                f"layer {wrong[0]} is asked for; the s3prl upstream {self.name!r} has 0 to "
                f"{n_layers - 1}"
            )
        return states[:, :, list(chosen)]

    def timestamps(self, audio: torch.Tensor, layers: Layers) -> tuple[torch.Tensor, torch.Tensor]:
        """Return frames [n, n_frames, n_layers, width] and their centres in ms."""
        states, centres = self.states(audio)
        return self._chosen(states, layers), centres.to(states.device).expand(len(audio), -1)

    def scene(self, audio: torch.Tensor, layers: Layers) -> torch.Tensor:
        """Return the mean over the frames, [n, n_layers, width]."""
        return self.timestamps(audio, layers)[0].mean(dim=1)
