"""Read local Hugging Face directories: configuration, weights, and the tokenizer through the
package transformers, which nothing else here needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from mambabench.errors import EncoderError
from mambabench.files import sha256_file
from mambabench.models.affect.mmml_backbones import (
    AudioBackbone,
    TextBackbone,
    build_backbone,
    renamed_weight_norm,
)
from mambabench.models.encoder import Encoded, TextEncoder
from mambabench.models.weights.strict import load_strict
from mambabench.reading.json_files import read_json_object

__all__ = ["Tokenise", "backbone_config", "load_backbone", "load_tokenizer", "text_encoder"]

Tensor = torch.Tensor
# texts -> (ids, mask), [n, max_tokens] int64 each
Tokenise = Callable[[Sequence[str]], tuple[Tensor, Tensor]]

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_DEFAULTS: dict[str, dict[str, Any]] = {  # what config.json may leave out, as transformers has it
    "text": {
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "layer_norm_eps": 1e-12,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
    },
    "audio": {
        "hidden_dropout": 0.1,
        "attention_dropout": 0.1,
        "activation_dropout": 0.1,
        "feat_proj_dropout": 0.0,
        "layer_norm_eps": 1e-5,
        "conv_bias": False,
        "conv_dim": [512] * 7,
        "conv_stride": [5, 2, 2, 2, 2, 2, 2],
        "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
        "num_conv_pos_embedding_groups": 16,
        "hidden_act": "gelu",
        "mask_time_prob": 0.05,
        "mask_time_length": 10,
        "mask_time_min_masks": 2,
        "layerdrop": 0.1,
    },
    "hubert": {"feat_extract_norm": "group", "num_conv_pos_embeddings": 128},
    "data2vec-audio": {"num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19},
}


def backbone_config(directory: Path) -> dict[str, Any]:
    """Return config.json of a local directory with the defaults of its architecture filled in."""
    path = directory / "config.json"
    if not path.is_file():
        raise EncoderError(f"{path} is missing: give a local Hugging Face model directory")
    remedy = "copy the model's directory again"
    config = read_json_object(path, remedy=remedy, error=EncoderError)
    kind = str(config.get("model_type"))
    audio = kind in ("hubert", "data2vec-audio")
    return {**_DEFAULTS["audio" if audio else "text"], **_DEFAULTS.get(kind, {}), **config}


def _read_weights(directory: Path) -> tuple[dict[str, Tensor], Path]:
    for name in _WEIGHTS:
        path = directory / name
        if not path.is_file():
            continue
        if name.endswith(".safetensors"):
            return load_file(path), path
        state = torch.load(path, map_location="cpu", weights_only=True)
        return dict(state), path
    raise EncoderError(f"{directory}: neither {' nor '.join(_WEIGHTS)} is there")


def _for_backbone(state: Mapping[str, Tensor], module: torch.nn.Module) -> dict[str, Tensor]:
    """Keep the backbone's own keys: heads and buffers are dropped, a model prefix is taken off."""
    wanted = set(module.state_dict())
    out: dict[str, Tensor] = {}
    for key, tensor in renamed_weight_norm(state).items():
        names = (key, key.partition(".")[2])
        match = next((name for name in names if name in wanted), None)
        if match is not None:
            out[match] = tensor
    return out


def load_backbone(directory: Path) -> tuple[TextBackbone | AudioBackbone, str]:
    """Return the backbone of a local directory with its weights, and their SHA-256.

    A pooling layer that the file lacks keeps its random start, as transformers does it, unless
    anything else is missing: then EncoderError lists it.
    """
    module = build_backbone(backbone_config(directory))
    state, path = _read_weights(directory)
    fitting = _for_backbone(state, module)
    for key, tensor in module.state_dict().items():
        if key.startswith("pooler.") or key == "masked_spec_embed":
            fitting.setdefault(key, tensor)
    load_strict(module, fitting, str(path))
    return module, sha256_file(path)


def load_tokenizer(directory: Path, max_tokens: int) -> Tokenise:
    """Return a function that tokenises as published: padded to `max_tokens`, cut at its end."""
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise EncoderError(
            "tokenising for a text model needs the package transformers: "
            "pip install 'mambabench[hf]'"
        ) from error
    tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)

    def tokenise(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        found = tokenizer(
            list(texts),
            max_length=max_tokens,
            padding="max_length",
            truncation=True,
            add_special_tokens=True,
            return_tensors="pt",
        )
        return found["input_ids"], found["attention_mask"]

    return tokenise


def text_encoder(directory: Path, *, max_tokens: int, device: str) -> TextEncoder:
    """Return a frozen RoBERTa or BERT of a local directory."""
    tokenise = load_tokenizer(directory, max_tokens)
    model, identity = load_backbone(directory)
    if not isinstance(model, TextBackbone):
        raise EncoderError(f"{directory} holds an audio model; --text-encoder wants a text model")
    model = model.eval().to(device)

    @torch.no_grad()
    def encode(texts: Sequence[str]) -> list[Encoded]:
        ids, mask = tokenise(texts)
        length = int(mask.sum(1).max())  # padding beyond the longest text changes nothing
        hidden, pooled = model(ids[:, :length].to(device), mask[:, :length].to(device))
        return [
            Encoded(states[keep.bool()].cpu().numpy(), one.cpu().numpy())
            for states, one, keep in zip(hidden, pooled, mask[:, :length], strict=True)
        ]

    return TextEncoder(directory.name, identity, model.hidden_size, encode)
