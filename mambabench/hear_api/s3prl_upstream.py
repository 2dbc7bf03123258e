"""Every encoder of ours as an s3prl upstream, registered without touching s3prl.

    import mambabench.hear_api.s3prl_upstream as bridge
    bridge.register("ssam_tiny", "checkpoint.pth")     # upstream "mambabench_ssam_tiny"
    s3prl.run_downstream.main()                        # -u mambabench_ssam_tiny

s3prl's runner and its S3PRLUpstream look an upstream up in ``s3prl.hub`` when they are called, so
an attribute set there is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from mambabench.errors import EncoderError
from mambabench.models.encoder import LoadedEncoder
from mambabench.models.registry import load_encoder

__all__ = ["Upstream", "register"]


class Upstream(torch.nn.Module):
    """What s3prl calls an UpstreamExpert: clips in, hidden states of all layers out."""

    def __init__(self, encoder: LoadedEncoder) -> None:
        super().__init__()
        if encoder.sample_rate_hz != 16000:
            raise EncoderError(
                f"{encoder.label} hears {encoder.sample_rate_hz} Hz; s3prl gives 16000 Hz only"
            )
        self.encoder = encoder
        self.network: Any = encoder.model
        self.hop_samples = _hop_samples(encoder)

    def get_downsample_rates(self, key: str = "hidden_states") -> int:
        """Return the samples from one frame to the next."""
        return self.hop_samples

    def forward(self, wavs: Sequence[torch.Tensor]) -> dict[str, list[torch.Tensor]]:
        """Return ``{"hidden_states": [[n_clips, n_frames, width] per layer]}``.

        `wavs` are mono clips [n_samples]. Clips of one length go together; a clip's frames never
        depend on the others, and are filled with zeros up to the longest.
        """
        layers = tuple(range(self.encoder.n_hidden_states))
        # the network itself, where it can: s3prl may fine-tune, and then gradients must flow
        timestamps = getattr(self.network, "timestamps", self.encoder.timestamps)
        rows: dict[int, torch.Tensor] = {}
        for length in sorted({len(w) for w in wavs}):
            members = [i for i, w in enumerate(wavs) if len(w) == length]
            frames, _ = timestamps(torch.stack([wavs[i] for i in members]).float(), layers)
            rows.update(zip(members, frames, strict=True))
        padded = torch.nn.utils.rnn.pad_sequence(
            [rows[i] for i in range(len(wavs))], batch_first=True
        )
        return {"hidden_states": list(padded.unbind(2))}


def _hop_samples(encoder: LoadedEncoder) -> int:
    """Return the hop in whole samples, as the timestamps have it."""
    audio = torch.zeros(1, 4 * encoder.sample_rate_hz, device=encoder.device)
    times_ms = encoder.timestamps(audio, None)[1][0].double()
    if len(times_ms) < 2:
        raise EncoderError(f"{encoder.label} gives no regular frames, so it is no upstream")
    hop_ms = float((times_ms[-1] - times_ms[0]) / (len(times_ms) - 1))
    return round(hop_ms * encoder.sample_rate_hz / 1000)


def register(
    name: str,
    checkpoint: str | Path | None = None,
    *,
    upstream: str | None = None,
    hub: ModuleType | None = None,
    **options: Any,
) -> str:
    """Make the encoder `name` an s3prl upstream and return its name there.

    The name is ``mambabench_<name>`` unless `upstream` says otherwise. The encoder is loaded when
    s3prl asks for it; a checkpoint that s3prl passes (``-k``) takes the place of `checkpoint`.
    Raises EncoderError where s3prl cannot be imported or the name is taken.
    """
    hub = hub or _hub()
    upstream = upstream or "mambabench_" + name.rpartition(".")[2].replace(":", "_")
    present = getattr(hub, upstream, None)
    if present is not None and not hasattr(present, "mambabench_encoder"):
        raise EncoderError(f"s3prl has an upstream {upstream!r} of its own: choose another name")
    setattr(hub, upstream, _maker(name, checkpoint, options))
    return upstream


def _hub() -> ModuleType:
    try:
        return import_module("s3prl.hub")
    except ImportError as error:
        raise EncoderError(f"s3prl cannot be imported: {error}") from error


def _maker(
    name: str, checkpoint: str | Path | None, options: dict[str, Any]
) -> Callable[..., Upstream]:
    def make(ckpt: str | None = None, *_: Any, **__: Any) -> Upstream:

        # s3prl moves the model to its device itself
        return Upstream(load_encoder(name, ckpt or checkpoint, "cpu", None, **options))

    make.mambabench_encoder = name  # type: ignore[attr-defined]
    return make
