"""Everything that a training can be told: typed, checked, and stored with its result."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

from mambabench.errors import ProtocolError, nearest_names
from mambabench.train.encoder_settings import (
    AumSettings,
    EncoderSettings,
    SsambaSettings,
    SsamSettings,
)

__all__ = ["SYSTEMS", "DepMambaSettings", "MmmlSettings", "Settings", "resolve"]


@dataclass(frozen=True)
class DepMambaSettings:
    """How DepMamba (or its simple baseline) is built, trained, selected and judged.

    The defaults are the sound choice: padding-invariant, selected by validation AUC.
    """

    task: str = "dvlog"  # a feature corpus, or a stored task when `features` names an encoder
    model: Literal["DepMamba", "TMeanNet"] = "DepMamba"
    mode: Literal["parity", "masked"] = "masked"
    modalities: Literal["both", "audio", "video"] = "both"
    features: str | None = None  # encoder whose stored frames replace the corpus's audio features
    layer: int = -1  # of that encoder's stored layers
    max_frames: int | None = None  # longer sequences are cut; None: never
    mm_input_size: int = 256
    mm_output_sizes: tuple[int, ...] = (256,)
    dropout: float = 0.1
    d_state: int = 12
    expand: int = 4
    d_conv: int = 4
    hidden_sizes: tuple[int, ...] = (256, 128)  # of TMeanNet
    lr: float = 1e-4
    batch_size: int = 16
    epochs: int = 120
    select: Literal["published", "auc", "balanced_acc", "f1", "loss"] = "auc"
    threshold: Literal["zero", "valid"] = "zero"  # of the logit, or from validation
    augment: bool = True  # random crops of training sequences
    crop_tries: int = 5
    min_crop: int | None = None  # None: the corpus's own
    train_gender: Literal["both", "f", "m"] = "both"
    test_gender: Literal["both", "f", "m"] = "both"  # of the validation set as well
    make_split: int | None = None  # seed of a new split that no speaker crosses
    allow_missing: bool = False  # go on without sessions whose features are absent
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class MmmlSettings:
    """How a fusion network (or an audio-only head) is built, trained, selected and judged."""

    task: str = "mosi"  # mosi, mosei, sims or generated
    input: Literal["frames", "scene", "tokens", "spec", "smile", "raw"] = "frames"
    fusion: Literal["cc", "cme", "text"] = "cme"  # text: the text-only model with context
    version: Literal["v1", "v2", "v3"] = "v1"
    context: bool = False
    n_layers: int = 5
    heads: int = 12
    hidden: int | None = None  # None: the text's width; other widths pass an adapter
    ffn: int = 3072
    middle: int = 512
    context_middle: int = 768
    mixed_ffn: int = 2048
    self_attention: bool = True
    feed_forward: bool = True
    dropout: float = 0.3
    scene_hidden: int = 0  # of the head on scene embeddings; 0: linear
    layer: int = -1  # of the encoder's stored layers
    tasks: str = "MTA"  # heads in the loss; the first is scored
    loss: Literal["L1", "MSE"] = "L1"
    lr: float = 5e-6
    weight_decay: float = 0.01
    batch_size: int = 8
    early_stop: int = 8
    max_epochs: int | None = None
    one_optimiser: bool = False
    select: Literal["loss", "acc"] = "loss"
    text_context: int = 2  # previous texts
    audio_context: int = 1  # previous clips
    joined_context: bool = False  # the previous texts are part of the text itself
    max_tokens: int = 96
    max_samples: int = 96000
    text_dir: str | None = None  # local model directories, for input "tokens" and "raw"
    audio_dir: str | None = None
    seeds: tuple[int, ...] = (1, 11, 111)


Settings = DepMambaSettings | MmmlSettings | EncoderSettings
SYSTEMS: dict[str, type[Settings]] = {
    "depmamba": DepMambaSettings,
    "mmml": MmmlSettings,
    "ssam": SsamSettings,
    "ssast": SsamSettings,
    "ssamba": SsambaSettings,
    "aum": AumSettings,
}
S = TypeVar("S", bound=Settings)


def resolve(kind: type[S], given: Mapping[str, Any], where: str) -> S:
    """Return the settings with `given` in place of defaults.

    Raises ProtocolError, naming `where`, for an unknown key or a value of the wrong type.
    """
    hints: dict[str, Any] = typing.get_type_hints(kind)
    known = [field.name for field in fields(kind)]
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            raise ProtocolError(
                f"{where}: no setting {key!r}{nearest_names(key, known)}; `--dry-run` shows all"
            )
        values[key] = _checked(hints[key], value, f"{where}: {key}")
    settings = kind(**values)
    if not settings.seeds:
        raise ProtocolError(f"{where}: seeds is empty")
    if isinstance(settings, MmmlSettings) and (
        not settings.tasks
        or set(settings.tasks) - set("MTA")
        or len(set(settings.tasks)) < len(settings.tasks)
    ):
        raise ProtocolError(f"{where}: tasks must be letters of M, T, A, not {settings.tasks!r}")
    return settings


def _checked(hint: Any, value: Any, where: str) -> Any:
    """Return `value` as `hint` wants it; integers serve as floats, lists as tuples."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            shown = ", ".join(map(str, choices))
            near = nearest_names(str(value), map(str, choices))
            raise ProtocolError(f"{where} is {value!r}, not one of {shown}{near}")
        return value
    if origin is types.UnionType:
        if value is None or value == "none":
            return None
        inner = next(h for h in typing.get_args(hint) if h is not type(None))
        return _checked(inner, value, where)
    if origin is tuple:
        inner = typing.get_args(hint)[0]
        if not isinstance(value, (list, tuple)):
            value = [value]
        return tuple(_checked(inner, item, where) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ProtocolError(f"{where} is {value!r}, not {hint.__name__}")
    return value
