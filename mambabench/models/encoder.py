"""What every other room sees of an encoder, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

__all__ = ["Encoded", "LoadedEncoder", "TextEncoder"]

# audio [n_clips, n_samples] float32 in [-1, 1] on the encoder's device, all clips of equal length;
# layers: indices into the hidden states, or None for the encoder's own output only
SceneFunction = Callable[["torch.Tensor", "tuple[int, ...] | None"], "torch.Tensor"]
TimestampFunction = Callable[
    ["torch.Tensor", "tuple[int, ...] | None"], "tuple[torch.Tensor, torch.Tensor]"
]


@dataclass(frozen=True)
class LoadedEncoder:
    """An encoder ready to use: in evaluation mode, on its device, with its identity.

    `scene(audio, layers)` returns float32 [n_clips, n_layers_chosen, scene_embedding_size];
    `timestamps(audio, layers)` returns float32 [n_clips, n_frames, n_layers_chosen,
    timestamp_embedding_size] and float32 timestamps [n_clips, n_frames] in milliseconds, the
    centres of the frames. With ``layers=None`` the layer axis has length 1 and holds the output
    that the HEAR functions return. Layer 0 is the input of the first block, layer
    ``n_hidden_states - 1`` the final (normalised) output. Both run without gradients.
    """

    name: str  # as the user gave it, without "@checkpoint"
    label: str  # `name`, plus "@" and eight hex digits of `identity` where a checkpoint was given
    identity: str  # 64 hex digits: weights + configuration + front-end + behavioural fingerprint
    model: torch.nn.Module
    device: str
    sample_rate_hz: int
    scene_embedding_size: int
    timestamp_embedding_size: int
    n_hidden_states: int  # 1 where only the output can be had
    scene: SceneFunction
    timestamps: TimestampFunction
    configuration: Mapping[str, str | int | float | bool | None]  # recorded with every result


class Encoded(NamedTuple):
    """One text: token states [n_tokens, dim] and the pooled state [dim], float32."""

    hidden: npt.NDArray[np.float32]
    pooled: npt.NDArray[np.float32]


@dataclass(frozen=True)
class TextEncoder:
    """A frozen text model with its identity."""

    name: str
    identity: str  # 64 hex digits: weights, configuration and vocabulary
    dim: int
    encode: Callable[[Sequence[str]], list[Encoded]]
