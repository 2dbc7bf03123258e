"""Make any HEAR module look like an encoder of ours."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.errors import EncoderError
from mambabench.files import canonical_json, sha256_file
from mambabench.hear_api.factory import HearModel
from mambabench.hear_api.other_python import remote_provider
from mambabench.hear_api.provider import Provider, foreign_code, import_provider, load_model
from mambabench.models.encoder import LoadedEncoder
from mambabench.models.entry import Setting
from mambabench.models.registry import resolve_device
from mambabench.models.weights.identity import identity, weights_hash

if TYPE_CHECKING:
    import torch

__all__ = [
    "check_scene",
    "check_timestamps",
    "load_hear_module",
    "only_output",
    "with_name",
]

SIGNAL_S = (0.5, 1.0, 2.0, 4.0, 10.0, 30.0)  # lengths on which a provider is tried when loaded


def load_hear_module(
    name_or_path: str | Path,
    checkpoint: str | Path | None = None,
    device: str = "auto",
    options: Mapping[str, Setting] | None = None,
) -> LoadedEncoder:
    """Load the HEAR module `name_or_path` (dotted name or ``.py`` file) as an encoder.

    Its two embedding functions run without gradients on `device`, and everything that they return
    is checked: type, shape, declared width. `options` are for modules whose load_model names them
    in its attribute ``options``. Raises EncoderError naming the provider and the fault.
    """

    given = dict(options or {})
    if "python" in given:
        return _in_other_python(str(name_or_path), checkpoint, device, given)
    provider = _with_options(import_provider(str(name_or_path)), given)
    device = resolve_device(device)
    model = load_model(provider, checkpoint, device)
    if isinstance(model, HearModel):  # ours: the encoder inside has all its hidden layers
        return with_name(model.encoder, provider.name, checkpoint is not None)
    return _wrap(provider, model, checkpoint, device, given)


def _in_other_python(
    name: str, checkpoint: str | Path | None, device: str, options: dict[str, Setting]
) -> LoadedEncoder:
    """Load a module that runs in the interpreter ``options["python"]``, on the CPU."""

    python = str(options.pop("python"))
    if options:
        raise EncoderError(f"{name} runs in {python}: it takes no option {min(options)!r}")
    if device not in ("auto", "cpu"):
        raise EncoderError(f"--python runs {name} on the CPU: use --device cpu, not {device}")
    provider, recorded = remote_provider(name, python, checkpoint)
    model = load_model(provider, checkpoint, "cpu")
    return _wrap(provider, model, checkpoint, "cpu", recorded)


def _with_options(provider: Provider, options: Mapping[str, Setting]) -> Provider:
    known = tuple(getattr(provider.load_model, "options", ()))
    for key in options:
        if key not in known:
            takes = f"only {', '.join(known)}" if known else "no options"
            raise EncoderError(f"{provider.name} is a HEAR module: it takes {takes}, not {key!r}")
    return replace(provider, load_model=partial(provider.load_model, **options))


def with_name(encoder: LoadedEncoder, name: str, has_checkpoint: bool) -> LoadedEncoder:
    """Return `encoder` under the name that the user gave it, with the label that goes with it."""
    label = f"{name}@{encoder.identity[:8]}" if has_checkpoint else name
    return replace(encoder, name=name, label=label)


@dataclass(frozen=True)
class _CheckedFunctions:
    """The two embedding functions of a provider, checked at every call."""

    provider: Provider
    model: Any
    device: str

    def scene(self, audio: torch.Tensor, layers: tuple[int, ...] | None) -> torch.Tensor:
        """Return float32 [n_clips, 1, scene_embedding_size]."""
        import torch

        only_output(self.provider.name, layers)
        with (
            torch.no_grad(),
            foreign_code(
                self.provider.name, f"embedding {_shape(audio)} of audio", self.provider.folder
            ),
        ):
            result = self.provider.get_scene_embeddings(audio.to(self.device), self.model)
        check_scene(self.provider.name, result, len(audio), int(self.model.scene_embedding_size))
        embeddings: torch.Tensor = result.float()
        return embeddings[:, None]

    def finite_scene(self, audio: torch.Tensor) -> torch.Tensor:
        """Return scene embeddings of a signal on which no encoder has an excuse for NaN."""
        embeddings = self.scene(audio, None)
        if not bool(embeddings.isfinite().all()):
            raise EncoderError(
                f"provider {self.provider.name!r} gives NaN or infinite embeddings on plain tones"
            )
        return embeddings

    def timestamps(
        self, audio: torch.Tensor, layers: tuple[int, ...] | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return float32 [n_clips, n_frames, 1, timestamp_embedding_size] and times in ms."""
        import torch

        only_output(self.provider.name, layers)
        with (
            torch.no_grad(),
            foreign_code(
                self.provider.name, f"embedding {_shape(audio)} of audio", self.provider.folder
            ),
        ):
            result = self.provider.get_timestamp_embeddings(audio.to(self.device), self.model)
        width = int(self.model.timestamp_embedding_size)
        check_timestamps(self.provider.name, result, len(audio), width)
        embeddings, times_ms = result
        return embeddings.float()[:, :, None], times_ms.float()


def only_output(name: str, layers: tuple[int, ...] | None) -> None:
    """Refuse any layer but the output (None, or index 0 of one): EncoderError."""
    if layers not in (None, (0,)):
        raise EncoderError(
            f"provider {name!r} gives its output only, not layers {layers}: use --layers last"
        )


def _shape(audio: torch.Tensor) -> str:
    return " x ".join(map(str, audio.shape))


def check_scene(name: str, result: object, n_clips: int, width: int | None) -> None:
    """Raise EncoderError unless `result` is a floating tensor [n_clips, width]."""
    _check_tensor(name, "get_scene_embeddings", result, (n_clips, width))


def check_timestamps(name: str, result: object, n_clips: int, width: int | None) -> None:
    """Raise EncoderError unless `result` is a pair of tensors [n_clips, n_frames, width] and
    [n_clips, n_frames]."""
    function = "get_timestamp_embeddings"
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise EncoderError(
            f"{function} of provider {name!r} returned {type(result).__name__}; "
            "it must return the pair (embeddings, timestamps)"
        )
    _check_tensor(name, function, result[0], (n_clips, None, width))
    _check_tensor(name, function + " (timestamps)", result[1], tuple(result[0].shape[:2]))


def _check_tensor(name: str, function: str, value: object, shape: tuple[int | None, ...]) -> None:
    import torch

    names = ("n_clips", "size") if len(shape) == 2 else ("n_clips", "n_frames", "size")
    known = (n if s is None else str(s) for s, n in zip(shape, names, strict=True))
    wanted = "[" + ", ".join(known) + "]"
    if not isinstance(value, torch.Tensor):
        raise EncoderError(
            f"{function} of provider {name!r} returned {type(value).__name__}, "
            f"expected a float32 tensor {wanted}"
        )
    fits = value.ndim == len(shape) and all(
        s is None or s == n for s, n in zip(shape, value.shape, strict=True)
    )
    if not fits:
        raise EncoderError(
            f"{function} of provider {name!r} returned shape {list(value.shape)}, "
            f"expected {wanted}: the first number is the count of clips, the last the size that "
            "the model declares"
        )
    if not value.dtype.is_floating_point:
        raise EncoderError(
            f"{function} of provider {name!r} returned {value.dtype}, expected torch.float32"
        )


def _wrap(
    provider: Provider,
    model: Any,
    checkpoint: str | Path | None,
    device: str,
    options: Mapping[str, Setting],
) -> LoadedEncoder:
    functions = _CheckedFunctions(provider, model, device)
    sample_rate_hz = int(model.sample_rate)
    configuration: dict[str, str | int | float | bool | None] = {
        "kind": "hear_module",
        "source_sha256": provider.source_sha256(),
        "checkpoint_sha256": _sha256_of_path(checkpoint),
        "sample_rate_hz": sample_rate_hz,
        **{f"option_{key}": value for key, value in sorted(options.items())},
        **_weights_files(provider.name, model),
    }
    # a foreign module carries no version that could be trusted: what it computes on a fixed
    # signal stands in for its code and whatever files it reads
    weights = weights_hash(_tensors(provider, model))
    found = _on_a_signal_that_is_long_enough(
        lambda duration_s: identity(
            weights, configuration, functions.finite_scene, sample_rate_hz, device, duration_s
        )
    )
    encoder = LoadedEncoder(
        name=provider.name,
        label=provider.name,
        identity=found,
        model=model,
        device=device,
        sample_rate_hz=sample_rate_hz,
        scene_embedding_size=int(model.scene_embedding_size),
        timestamp_embedding_size=int(model.timestamp_embedding_size),
        n_hidden_states=1,
        scene=functions.scene,
        timestamps=functions.timestamps,
        configuration=configuration,
    )
    return with_name(encoder, provider.name, checkpoint is not None)


def _on_a_signal_that_is_long_enough(find: Callable[[float], str]) -> str:
    """Return what `find` returns for the shortest of several lengths in seconds on which the
    provider works; the first error where it works on none."""
    first: EncoderError | None = None
    for duration_s in SIGNAL_S:
        try:
            return find(duration_s)
        except EncoderError as error:
            first = first or error
    assert first is not None
    raise first


def _tensors(provider: Provider, model: Any) -> dict[str, torch.Tensor]:
    """Return the model's weights without the extra state that some modules add.

    Where it has no state dict that can be read, its behaviour and its files alone say who it is.
    """
    import torch

    def listed() -> dict[str, Any]:
        return {**dict(model.named_parameters()), **dict(model.named_buffers())}

    state: Any = None
    fault: EncoderError | None = None
    for method in ("state_dict", "named_parameters"):  # the second for parameters not yet made
        if not isinstance(state, Mapping) and callable(getattr(model, method, None)):
            call = model.state_dict if method == "state_dict" else listed
            try:
                with foreign_code(provider.name, f"its model's {method}() was called"):
                    state = call()
            except EncoderError as error:
                fault = fault or error
    if not isinstance(state, Mapping):
        if fault is not None:
            warnings.warn(f"{fault}: its weights are not part of its identity", stacklevel=2)
        return {}
    return {str(key): value for key, value in state.items() if isinstance(value, torch.Tensor)}


def _weights_files(name: str, model: Any) -> dict[str, str]:
    """Hash the files that the model says it was loaded from: ONNX, TFLite, arrays."""
    files = [Path(path) for path in getattr(model, "weights_files", ())]
    for path in files:
        if not path.is_file():
            raise EncoderError(f"provider {name!r} names {path} in weights_files: no such file")
    if not files:
        return {}
    hashes = [sha256_file(path) for path in files]
    return {"weights_files_sha256": hashlib.sha256(canonical_json(hashes)).hexdigest()}


def _sha256_of_path(path: str | Path | None) -> str | None:
    """Hash a checkpoint: a file, a folder of files, or (what is no path) its text."""
    if path is None:
        return None
    path = Path(path)
    if path.is_file():
        return sha256_file(path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        parts = {str(p.relative_to(path)): sha256_file(p) for p in files}
        return hashlib.sha256(canonical_json(parts)).hexdigest()
    return hashlib.sha256(str(path).encode()).hexdigest()
