"""Run the golden cases of MMML: layers, fusion networks, audio models, end to end."""

from __future__ import annotations

from typing import Any

import torch
from golden_common import (
    Case,
    add_gradients,
    add_state,
    assert_outputs,
    assert_without_gradient,
    leaves,
    loss_of,
)
from torch import nn

from mambabench.models.affect.mmml import CmeLayer, Fusion, FusionConfig, Modality, TextContext
from mambabench.models.affect.mmml_audio import AudioRaw, AudioSmile, AudioSpec
from mambabench.models.affect.mmml_backbones import AudioBackbone, renamed_weight_norm
from mambabench.models.affect.mmml_end_to_end import EndToEnd
from mambabench.models.weights.strict import load_strict

TEXT = ("text_hidden", "text_pooler", "text_mask", "audio_hidden", "audio_frames")
CONTEXT = tuple(name.replace("_", "_context_", 1) for name in TEXT)
TOKENS = ("text_ids", "text_mask", "audio", "audio_mask")
CONTEXT_TOKENS = ("text_context_ids", "text_context_mask", "audio_context", "audio_context_mask")


def fusion_config(case: Case, *, dropout: float = 0.3) -> FusionConfig:
    info, dims, name = case.info, case.info["dims"], case.info["class"]
    fusion = "cme" if "cme" in name else "cc"
    context = name.endswith("_context")
    large = context
    return FusionConfig(
        fusion=fusion,
        version=info.get("cme_version", "v1") if fusion == "cme" else "v1",
        context=context,
        language="ch" if "hub" in name else "en",
        text_size=dims["hidden_large"] if large else dims["hidden"],
        audio_size=dims["hidden_large"] if large and fusion == "cme" else dims["hidden"],
        n_layers=info.get("num_hidden_layers", 5),
        heads=dims["heads_large"] if large else dims["heads"],
        ffn=dims["ffn_large"] if large else dims["ffn"],
        middle=dims["mlp_mid(512->)"],
        context_middle=dims["hidden"],
        mixed_ffn=dims["TransformerEncoder ffn (repo: PyTorch default 2048)"],
        dropout=dropout,
        mixed_dropout=0.1 if dropout else 0.0,
    )


def _capture(model: Fusion, got: dict[str, Any]) -> None:
    for name, key in (("T_output_layers", "T"), ("A_output_layers", "A")):
        model.get_submodule(name).register_forward_pre_hook(
            lambda _m, inputs, key=key: got.__setitem__(f"{key}_features", inputs[0])
        )
    model.fused_output_layers.register_forward_pre_hook(
        lambda _m, inputs: got.__setitem__("fused_features", inputs[0])
    )
    if model.config.fusion == "cc":
        return
    for i, layer in enumerate(model.CME_layers):

        def hook(_m: nn.Module, inputs: Any, output: Any, i: int = i) -> None:
            part = ".context" if f"cme{i}.text" in got else ""
            got[f"cme{i}{part}.text"], got[f"cme{i}{part}.audio"] = output
            got[f"mask{part}.text"], got[f"mask{part}.audio"] = inputs[1], inputs[3]

        layer.register_forward_hook(hook)


def _finish(case: Case, model: nn.Module, got: dict[str, Any], output: Any, given: Any) -> None:
    got.update(M=output.M, T=output.T, A=output.A)
    if any(name.startswith("y") for name in case.inputs):
        loss = sum(
            (getattr(output, task) - case.inputs.get(f"y_{task}", case.inputs.get("y")))
            .abs()
            .mean()
            for task in "MTA"
        )
        got["loss_MTA"] = got["loss"] = loss
        if case.grad:
            loss.backward()
            add_gradients(got, model, given)
            add_gradients(got, model, given, "grad_MTA.")
            assert_without_gradient(case, model)
    add_state(got, model, "buffer_after.")
    assert_outputs(case, got)


def run_fusion(case: Case) -> None:
    config = fusion_config(case)
    model = Fusion(config)
    assert case.weights is not None
    load_strict(model, case.weights, "golden weights")
    model.train(case.train)
    got: dict[str, Any] = {}
    _capture(model, got)
    names = (*TEXT, *CONTEXT) if config.context else TEXT
    given = leaves(case, names)
    groups = (TEXT, CONTEXT) if config.context else (TEXT,)
    output = model(*(Modality(*(given[name] for name in group)) for group in groups))
    _finish(case, model, got, output, given)


def run_end_to_end(case: Case) -> None:
    config, backbones = fusion_config(case), case.info["backbones"]
    model = EndToEnd(config, backbones["text"], backbones["audio"])
    assert case.weights is not None
    load_strict(model, renamed_weight_norm(case.weights), "golden weights")
    model.train(case.train)
    got: dict[str, Any] = {}
    _capture(model, got)
    counts = {"text": 0, "audio": 0}

    def keep(kind: str, second: str) -> Any:
        def hook(_m: nn.Module, _i: Any, output: Any) -> None:
            name = f"backbone.{kind}{counts[kind]}"
            got[f"{name}.hidden"], got[f"{name}.{second}"] = output
            counts[kind] += 1

        return hook

    model.roberta_model.register_forward_hook(keep("text", "pooler"))
    audio = next(m for m in model.children() if isinstance(m, AudioBackbone))
    audio.register_forward_hook(keep("audio", "frames"))
    now = tuple(case.inputs[name] for name in TOKENS)
    context = tuple(case.inputs[name] for name in CONTEXT_TOKENS) if config.context else None
    output = model.forward_tokens(now, context)
    _finish(case, model, got, output, {})


def run_cme_layer(case: Case) -> None:
    config = case.info["config"]
    layer = CmeLayer(config["hidden"], config["heads"], config["ffn"], config["dropouts"])
    assert case.weights is not None
    load_strict(layer, case.weights, "golden weights")
    layer.train(case.train)
    given = leaves(case, ("text", "audio"))
    text, audio = layer(
        given["text"], case.inputs["text_mask"], given["audio"], case.inputs["audio_mask"]
    )
    got: dict[str, Any] = {"text": text, "audio": audio}
    if case.grad:
        loss_of(case, got).backward()
        add_gradients(got, layer, given)
    assert_outputs(case, got)


def _run_simple(case: Case, model: nn.Module, names: tuple[str, ...], got: dict[str, Any]) -> None:
    assert case.weights is not None
    load_strict(model, renamed_weight_norm(case.weights), "golden weights")
    model.train(case.train)
    given = leaves(case, names)
    got["y"] = model(*given.values())
    if case.grad:
        loss_of(case, got).backward()
        add_gradients(got, model, given)
    add_state(got, model, "buffer_after.")
    assert_outputs(case, got)


def run_text_context(case: Case) -> None:
    size = case.inputs["text_pooler"].shape[1]
    _run_simple(case, TextContext(size), ("text_pooler", "text_context_pooler"), {})


def run_audio_spec(case: Case) -> None:
    model, got = AudioSpec(), {}
    model.conv5.register_forward_hook(
        lambda _m, _i, output: got.__setitem__("pooled", output.mean((2, 3)))
    )
    _run_simple(case, model, ("x",), got)


def run_audio_smile(case: Case) -> None:
    model, got = AudioSmile(case.inputs["x"].shape[2]), {}
    model.transformer_encoder.register_forward_hook(
        lambda _m, _i, output: got.__setitem__("hidden", output[:, 1:])
    )
    _run_simple(case, model, ("x", "mask"), got)


def run_audio_raw(case: Case) -> None:
    model, got = AudioRaw(case.info["backbones"]["audio"]), {}
    model.classifier.register_forward_pre_hook(
        lambda _m, inputs: got.__setitem__("features", inputs[0])
    )
    _run_simple(case, model, ("x", "mask"), got)
    assert torch.isfinite(got["y"]).all()
