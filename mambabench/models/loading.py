"""The way from a registry entry to an encoder in use, shared by the families."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from mambabench.errors import EncoderError, nearest_names
from mambabench.models.blocks.initialise import initialise
from mambabench.models.blocks.precision import set_precision
from mambabench.models.encoder import LoadedEncoder
from mambabench.models.entry import EncoderEntry, LoadRequest, Setting
from mambabench.models.weights.checkpoint import fit_state, read_checkpoint
from mambabench.models.weights.identity import identity, weights_hash
from mambabench.models.weights.locate import local_checkpoint, missing_weights

__all__ = ["Sizes", "build_encoder", "known_options", "one_of", "serve"]

StateDict = Mapping[str, torch.Tensor]
Layers = tuple[int, ...] | None


@dataclass(frozen=True)
class Sizes:
    """What depends on the options of an encoder."""

    scene: int
    timestamp: int
    n_hidden_states: int


def known_options(
    request: LoadRequest, names: tuple[str, ...], entry: EncoderEntry
) -> dict[str, Setting]:
    """Return the request's options; raise EncoderError on one that the family does not have.

    `seed` is added to the known names for encoders with random weights.
    """
    names = names if entry.published else (*names, "seed")
    for name in request.options:
        if name not in names:
            known = ", ".join(names) or "none"
            raise EncoderError(
                f"encoder {entry.name} has no option {name!r}; its options are: {known}"
                f"{nearest_names(name, names)}"
            )
    return dict(request.options)


def one_of(name: str, value: Setting, allowed: tuple[Setting, ...]) -> str:
    """Return `value` if it is allowed; raise EncoderError with the nearest allowed one."""
    if value not in allowed:
        choices = [str(choice) for choice in allowed]
        raise EncoderError(
            f"{name}={value!r} is not one of {', '.join(choices)}"
            f"{nearest_names(str(value), choices)}"
        )
    return str(value)


def build_encoder(
    entry: EncoderEntry,
    request: LoadRequest,
    build: Callable[[], torch.nn.Module],
    adapt: Callable[[StateDict], StateDict] | None = None,
) -> torch.nn.Module:
    """Return the encoder with its weights.

    `build` runs under the meta device, so that nothing is initialised twice. A published encoder
    never runs on random weights: EncoderError says where its weights come from. `adapt` may
    rewrite the checkpoint's tensors (other lengths, other kernels) before they are matched.
    """
    with torch.device("meta"):
        encoder = build()
    if not entry.published:
        if request.checkpoint is not None:
            raise EncoderError(
                f"encoder {entry.name} has random weights and takes no checkpoint; "
                f"for {request.checkpoint} use {entry.name.removesuffix('_random')}"
            )
        encoder.to_empty(device="cpu")
        initialise(encoder, int(request.options.get("seed") or 0), len(_layers(encoder)))
        return encoder.eval()
    path = request.checkpoint or local_checkpoint(entry)
    if path is None:
        raise EncoderError(missing_weights(entry))
    state = read_checkpoint(path, entry).state
    fit_state(encoder, adapt(state) if adapt else state, entry.name, str(path))
    return encoder.eval()


def _layers(encoder: torch.nn.Module) -> torch.nn.ModuleList:
    """Return the encoder's longest list of modules: its layers."""
    lists = [m for m in encoder.modules() if isinstance(m, torch.nn.ModuleList)]
    return max(lists, key=len)


def serve(
    entry: EncoderEntry,
    request: LoadRequest,
    encoder: torch.nn.Module,
    wrap: Callable[[Any], torch.nn.Module],
    record: Mapping[str, Setting],
    sizes: Sizes | None = None,
) -> LoadedEncoder:
    """Set precision and device, find the identity, and return the encoder in use.

    `wrap` adds front-end and pooling around the encoder and returns a `Runtime`; `record` is what
    of the options goes into configuration and identity; `sizes` where options change them.
    """
    sizes = sizes or Sizes(
        entry.scene_embedding_size, entry.timestamp_embedding_size, entry.n_hidden_states
    )
    configuration = {"encoder": entry.name, **entry.settings, **record}
    configuration["precision"] = request.precision
    if not entry.published and entry.settings:
        configuration["seed"] = int(request.options.get("seed") or 0)
    weights = weights_hash(encoder.state_dict())
    in_float32 = set_precision(encoder, request.precision)
    if request.precision == "bf16":
        configuration["float32_products"] = ", ".join(in_float32)
        if in_float32 == ("all",):
            warnings.warn(
                f"{request.name}: these weights turn bfloat16's rounding into tokens of another "
                "direction (cosine below 0.9999): every product stays in float32",
                stacklevel=2,
            )
    runtime = wrap(encoder).eval().to(request.device)

    @torch.no_grad()
    def scene(audio: torch.Tensor, layers: Layers = None) -> torch.Tensor:
        return runtime.scene(audio, layers)  # type: ignore[no-any-return, operator]

    @torch.no_grad()
    def timestamps(audio: torch.Tensor, layers: Layers = None) -> tuple[torch.Tensor, torch.Tensor]:
        return runtime.timestamps(audio, layers)  # type: ignore[no-any-return, operator]

    found = identity(weights, configuration, scene, entry.sample_rate_hz, request.device)
    return LoadedEncoder(
        name=request.name,
        label=f"{request.name}@{found[:8]}" if entry.published else request.name,
        identity=found,
        model=runtime,
        device=request.device,
        sample_rate_hz=entry.sample_rate_hz,
        scene_embedding_size=sizes.scene,
        timestamp_embedding_size=sizes.timestamp,
        n_hidden_states=sizes.n_hidden_states,
        scene=scene,
        timestamps=timestamps,
        configuration=configuration,
    )
