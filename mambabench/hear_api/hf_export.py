"""Every encoder of ours as a Hugging Face model: save, load, ``AutoModel``, feature extractor.

``export(load_encoder("ssamba_tiny@FILE"), folder)`` writes a folder that
``AutoModel.from_pretrained(folder)`` reads once `register` was called (importing this module does).
The extractor only pads and checks: the front-end is part of the encoder. Needs ``mambabench[hf]``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    BatchFeature,
    PretrainedConfig,
    PreTrainedModel,
    SequenceFeatureExtractor,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling

from mambabench.errors import EncoderError
from mambabench.models.encoder import LoadedEncoder
from mambabench.models.entry import LoadRequest
from mambabench.models.registry import find_entry, split_name
from mambabench.models.weights.identity import identity, weights_hash

__all__ = [
    "MambabenchConfig",
    "MambabenchFeatureExtractor",
    "MambabenchModel",
    "export",
    "register",
]


class MambabenchConfig(PretrainedConfig):  # type: ignore[misc]
    """The encoder's registered name, its options and its sizes."""

    model_type = "mambabench"

    def __init__(
        self,
        encoder: str = "",
        options: dict[str, Any] | None = None,
        sampling_rate: int = 16000,
        hidden_size: int = 0,
        scene_embedding_size: int = 0,
        num_hidden_layers: int = 0,
        **kwargs: Any,
    ) -> None:
        self.encoder = encoder
        self.options = options or {}
        self.sampling_rate = sampling_rate
        self.hidden_size = hidden_size
        self.scene_embedding_size = scene_embedding_size
        self.num_hidden_layers = num_hidden_layers
        super().__init__(**kwargs)


class MambabenchFeatureExtractor(SequenceFeatureExtractor):  # type: ignore[misc]
    """Put clips into one tensor with a mask; the log-mel front-end belongs to the model."""

    model_input_names = ["input_values", "attention_mask"]  # noqa: RUF012 - transformers' way

    def __init__(
        self,
        feature_size: int = 1,
        sampling_rate: int = 16000,
        padding_value: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            feature_size=feature_size,
            sampling_rate=sampling_rate,
            padding_value=padding_value,
            **kwargs,
        )

    def __call__(
        self,
        raw_speech: Any,
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
        **_: Any,
    ) -> BatchFeature:
        """Return `input_values` float32 [n_clips, longest] and `attention_mask` int64.

        `raw_speech` is one mono clip in [-1, 1] or a sequence of them, of any lengths. Raises
        EncoderError for another sample rate: resample first.
        """
        if sampling_rate is not None and sampling_rate != self.sampling_rate:
            raise EncoderError(
                f"audio at {sampling_rate} Hz, but the encoder hears {self.sampling_rate} Hz: "
                "resample it first"
            )
        single = np.ndim(raw_speech[0]) == 0
        clips = [np.asarray(c, dtype=np.float32) for c in ([raw_speech] if single else raw_speech)]
        longest = max(len(c) for c in clips)
        values = np.full((len(clips), longest), self.padding_value, dtype=np.float32)
        mask = np.zeros((len(clips), longest), dtype=np.int64)
        for i, clip in enumerate(clips):
            values[i, : len(clip)], mask[i, : len(clip)] = clip, 1
        return BatchFeature(
            {"input_values": values, "attention_mask": mask}, tensor_type=return_tensors
        )


class MambabenchModel(PreTrainedModel):  # type: ignore[misc]
    """An encoder of ours behind the interface of transformers; gradients flow through it."""

    config_class = MambabenchConfig
    base_model_prefix = "model"
    main_input_name = "input_values"

    def __init__(self, config: MambabenchConfig, encoder: LoadedEncoder | None = None) -> None:
        super().__init__(config)
        # loaded weights come with `encoder`; without, they are random, as transformers has it
        self.encoder = encoder if encoder is not None else _random(config, "cpu")
        self.model: Any = self.encoder.model
        self.all_tied_weights_keys: dict[str, str] = {}

    def forward(
        self,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPooling:
        """Return frames as `last_hidden_state`, the scene embedding as `pooler_output`.

        `input_values` float32 [n_clips, n_samples]. With an `attention_mask` every clip is
        embedded at its own length, as if it came alone, and shorter ones are filled with zeros.
        """
        layers = tuple(range(self.encoder.n_hidden_states)) if output_hidden_states else None
        n_samples = input_values.shape[1]
        if attention_mask is None:
            lengths = torch.full((len(input_values),), n_samples)
        else:
            lengths = attention_mask.sum(dim=1).cpu()
        parts: dict[int, tuple[torch.Tensor, ...]] = {}
        for length in sorted({int(v) for v in lengths}):
            rows = torch.nonzero(lengths == length)[:, 0]
            clips = input_values[rows.to(input_values.device), :length]
            states = self.model.timestamps(clips, layers)[0] if layers else None
            output = self.model.timestamps(clips, None)[0]
            scene = self.model.scene(clips, None)[:, 0]
            for i, row in enumerate(rows.tolist()):
                parts[row] = (scene[i], output[i], *([states[i]] if states is not None else []))
        columns = list(zip(*(parts[row] for row in range(len(parts))), strict=True))
        pad = torch.nn.utils.rnn.pad_sequence
        hidden = pad(list(columns[2]), batch_first=True).unbind(2) if layers else None
        return BaseModelOutputWithPooling(
            last_hidden_state=pad(list(columns[1]), batch_first=True)[:, :, 0],
            pooler_output=torch.stack(columns[0]),
            hidden_states=hidden,
        )

    def init_weights(self) -> None:
        """Leave the weights alone: the encoder initialises itself as its authors do."""

    def save_pretrained(self, save_directory: str | Path, **_: Any) -> None:
        """Write config.json and model.safetensors, under the keys of ``state_dict()``."""
        from safetensors.torch import save_file

        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.config.architectures = [type(self).__name__]
        self.config.save_pretrained(folder)
        state = {k: v.detach().cpu().contiguous() for k, v in self.state_dict().items()}
        save_file(state, str(folder / "model.safetensors"), metadata={"format": "pt"})

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *args: Any, **kwargs: Any
    ) -> MambabenchModel:
        """Load what `save_pretrained` wrote, from a local folder only."""
        folder = Path(pretrained_model_name_or_path)
        if not (folder / "model.safetensors").is_file():
            raise EncoderError(
                f"{folder} holds no model.safetensors: give a local folder, nothing is downloaded"
            )
        if str(kwargs.get("dtype", "auto")) not in ("auto", "torch.float32", "float32", "None"):
            raise EncoderError("exported encoders load in float32; use torch.autocast for bfloat16")
        config = kwargs.get("config") or MambabenchConfig.from_pretrained(folder)
        device = kwargs.get("device_map") or "cpu"
        model: MambabenchModel = cls(config, _random(config, str(device))).eval()
        _fill(model, folder / "model.safetensors")
        return model


def _random(config: MambabenchConfig, device: str) -> LoadedEncoder:
    """Build the encoder with random weights, whatever is at hand."""
    from importlib import import_module

    entry = replace(find_entry(config.encoder), published=False)
    module, _, function = entry.loader.partition(":")
    request = LoadRequest(
        name=config.encoder,
        checkpoint=None,
        device=device,
        precision="fp32",
        options=dict(config.options),
    )
    loaded: LoadedEncoder = getattr(import_module(module), function)(entry, request)
    return loaded


def _fill(model: MambabenchModel, file: Path) -> None:
    """Load the weights in place, and let the encoder's identity follow them."""
    from safetensors.torch import load_file

    state = load_file(str(file), device="cpu")
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise EncoderError(f"{file} does not fit {model.config.encoder}: {error}") from error
    old = model.encoder
    found = identity(
        weights_hash(state),
        old.configuration,
        lambda audio: old.scene(audio, None),
        old.sample_rate_hz,
        old.device,
    )
    model.encoder = replace(old, identity=found, label=f"{old.name}@{found[:8]}")


def export(encoder: LoadedEncoder, folder: str | Path) -> MambabenchModel:
    """Write `encoder` and its feature extractor to `folder` for ``from_pretrained``; return it.

    Raises EncoderError for encoders that are not registered ones, or not in float32.
    """

    bare, options, _ = split_name(encoder.name)
    entry = find_entry(bare)
    if encoder.configuration.get("precision", "fp32") != "fp32":
        raise EncoderError(f"{encoder.label} is not in float32: load it with dtype='fp32'")
    config = MambabenchConfig(
        encoder=entry.name,
        options=dict(options),
        sampling_rate=encoder.sample_rate_hz,
        hidden_size=encoder.timestamp_embedding_size,
        scene_embedding_size=encoder.scene_embedding_size,
        num_hidden_layers=encoder.n_hidden_states - 1,
    )
    model: MambabenchModel = MambabenchModel(config, encoder).eval()
    model.save_pretrained(folder)
    MambabenchFeatureExtractor(sampling_rate=encoder.sample_rate_hz).save_pretrained(folder)
    return model


def register() -> None:
    """Tell transformers' Auto classes about exported encoders; done when this is imported."""
    AutoConfig.register("mambabench", MambabenchConfig, exist_ok=True)
    AutoModel.register(MambabenchConfig, MambabenchModel, exist_ok=True)
    AutoFeatureExtractor.register(MambabenchConfig, MambabenchFeatureExtractor, exist_ok=True)


register()
