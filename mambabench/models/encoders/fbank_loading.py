"""SSAMBA and AuM as the registry asks for them: options in, encoders in use out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mambabench.errors import EncoderError
from mambabench.models.encoder import LoadedEncoder
from mambabench.models.encoders.aum import AumConfiguration, AumEncoder, adapt_state
from mambabench.models.encoders.fbank_runtime import (
    POOLINGS,
    WINDOWS,
    FbankOptions,
    FbankRuntime,
    Normalisation,
)
from mambabench.models.encoders.frontends import NORMALISATIONS, EpicLogMel, KaldiFbank
from mambabench.models.encoders.ssamba import SsambaConfiguration, SsambaPretraining
from mambabench.models.entry import EncoderEntry, LoadRequest, Setting
from mambabench.models.loading import Sizes, build_encoder, known_options, one_of, serve

__all__ = ["build_aum", "build_ssamba", "load_aum", "load_ssamba"]

STRIDES = (16, 10)
COMMON = ("pooling", "hop_ms", "window", "stride", "normalisation")


def build_ssamba(entry: EncoderEntry) -> SsambaPretraining:
    """Return an empty pretraining model with the authors' keys."""
    return SsambaPretraining(SsambaConfiguration(embed_dim=_int(entry.settings["embed_dim"])))


def build_aum(entry: EncoderEntry, num_classes: int | None = None) -> AumEncoder:
    """Return an empty AuM with the authors' keys."""
    settings = entry.settings
    classes = _int(settings["num_classes"]) if num_classes is None else num_classes
    return AumEncoder(
        AumConfiguration(
            embed_dim=_int(settings["embed_dim"]),
            spectrogram_size=(128, _int(settings["n_frames"])),
            num_classes=classes,
            directions=str(settings["directions"]),
        )
    )


def _int(value: Setting) -> int:
    assert isinstance(value, int)
    return value


def load_ssamba(entry: EncoderEntry, request: LoadRequest) -> LoadedEncoder:
    """Build SSAMBA as an encoder.

    Options: `pooling` of scenes ("mean" of the patch tokens, "class" token or "columns": the
    patches of a column concatenated, then averaged; timestamps follow "columns"), `hop_ms` of
    timestamps, `window` ("clip" or "published"), `stride` of the patches (16 or 10) and
    `normalisation` (the dataset whose statistics are used).
    """
    options = known_options(request, COMMON, entry)
    model = build_encoder(entry, request, lambda: build_ssamba(entry))

    def wrap(model: SsambaPretraining) -> FbankRuntime:
        return _runtime(entry, model.v, options, "mean")

    return _serve(entry, request, model, wrap, options, "mean")


def load_aum(entry: EncoderEntry, request: LoadRequest) -> LoadedEncoder:
    """Build AuM as an encoder.

    Options: those of SSAMBA (`pooling` defaults to "class"), `positions` of windows shorter than
    the trained length ("crop": the first ones, "resample": interpolated), `num_classes` of the
    checkpoint's head, and `adapt=true` to accept checkpoints of another length or of Vim.
    """
    names = (*COMMON, "positions", "num_classes", "adapt")
    options = known_options(request, names, entry)
    one_of("positions", options.get("positions", "crop"), ("crop", "resample"))
    classes = options.get("num_classes")
    if classes is not None and (not isinstance(classes, int) or classes < 1):
        raise EncoderError(f"num_classes={classes!r} is no positive whole number")

    def adapt(state: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        if not options.get("adapt"):
            return state
        model = build_aum(entry, classes)
        adapted = adapt_state(state, model.configuration)
        for key in ("head.weight", "head.bias"):  # a head of other classes was dropped
            adapted.setdefault(key, torch.zeros(model.get_parameter(key).shape))
        return adapted

    encoder = build_encoder(entry, request, lambda: build_aum(entry, classes), adapt)

    def wrap(encoder: AumEncoder) -> FbankRuntime:
        return _runtime(entry, encoder, options, "class")

    return _serve(entry, request, encoder, wrap, options, "class")


def _runtime(
    entry: EncoderEntry, backbone: Any, options: Mapping[str, Setting], pooling: str
) -> FbankRuntime:
    epic = entry.sample_rate_hz == 24000
    stride = options.get("stride", 16)
    one_of("stride", stride, STRIDES)
    chosen = FbankOptions(
        pooling=one_of("pooling", options.get("pooling", pooling), POOLINGS),
        hop_ms=_hop(options.get("hop_ms"), _int(stride), 5.0 if epic else 10.0),
        window=one_of("window", options.get("window", "clip"), WINDOWS),
        stride=_int(stride),
        crop_positions=options.get("positions", "crop") == "crop",
    )
    name = options.get("normalisation", entry.settings["normalisation"])
    known = one_of("normalisation", name, tuple(NORMALISATIONS))
    statistics = None if epic else Normalisation(*NORMALISATIONS[known])
    frontend = EpicLogMel() if epic else KaldiFbank()
    return FbankRuntime(
        backbone, frontend, statistics, chosen, sigmoid=entry.settings.get("loss") != "ce"
    )


def _hop(value: Setting, stride: int, frame_ms: float) -> float:
    """Check a timestamp hop: whole frames that divide the patches' own hop evenly."""
    native = stride * frame_ms
    if value is None:
        return native
    allowed = [frame_ms * k for k in range(1, stride + 1) if stride % k == 0]
    if not isinstance(value, int | float) or float(value) not in allowed:
        shown = ", ".join(f"{hop:g}" for hop in reversed(allowed))
        raise EncoderError(
            f"hop_ms={value!r} does not divide the patches' own hop of {native:g} ms; use one of "
            f"{shown}"
        )
    return float(value)


def _serve(
    entry: EncoderEntry,
    request: LoadRequest,
    encoder: torch.nn.Module,
    wrap: Any,
    options: Mapping[str, Setting],
    pooling: str,
) -> LoadedEncoder:
    probe: FbankRuntime = wrap(encoder)
    chosen = probe.options
    width = probe.backbone.configuration.embed_dim
    wide = width * probe.bands
    sizes = Sizes(
        scene=wide if chosen.pooling == "columns" else width,
        timestamp=wide if chosen.pooling == "columns" else width,
        n_hidden_states=probe.backbone.n_states,
    )
    record: dict[str, Setting] = {
        "pooling": chosen.pooling,
        "hop_ms": chosen.hop_ms,
        "window": chosen.window,
        "stride": chosen.stride,
        "normalisation": str(options.get("normalisation", entry.settings["normalisation"])),
    }
    if entry.family == "aum":
        record["positions"] = "crop" if chosen.crop_positions else "resample"
        record["adapt"] = bool(options.get("adapt"))
    return serve(entry, request, encoder, wrap, record, sizes)
