"""Run the golden cases of DepMamba: layers, whole models, training steps and runs."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from golden_common import (
    Case,
    add_gradients,
    add_state,
    assert_close,
    assert_outputs,
    assert_without_gradient,
    leaves,
    loss_of,
)
from torch import nn

from mambabench.models.affect.depmamba import BiMamba, CnnLayer, DepMamba, DepMambaConfig, TMeanNet
from mambabench.models.weights.strict import load_strict


def build(case: Case) -> DepMamba:
    given = case.info["config"]
    mamba = given["mamba_config"]
    model = DepMamba(
        DepMambaConfig(
            audio_input_size=given["audio_input_size"],
            video_input_size=given["video_input_size"],
            mm_input_size=given["mm_input_size"],
            mm_output_sizes=tuple(given["mm_output_sizes"]),
            dropout=given["dropout"],
            d_state=mamba["d_state"],
            expand=mamba["expand"],
            d_conv=mamba["d_conv"],
            mode="parity",
        )
    )
    weights = case.weights if case.weights is not None else recipe_weights(model)
    load_strict(model, weights, "golden weights")
    return model.train(case.train)


def recipe_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Rebuild the weights that the full-size cases describe instead of storing."""
    return {k: _recipe(k, tuple(v.shape)) for k, v in model.state_dict().items()}


def _canonical(key: str) -> str:
    for alias, name in {
        ".a_net.0.": ".a_conv.",
        ".a_net.1.": ".a_bn.",
        ".v_net.0.": ".v_conv.",
        ".v_net.1.": ".v_bn.",
        ".net.0.": ".conv1.",
        ".net.1.": ".bn1.",
    }.items():
        if ".cnn_layers." in key:
            key = key.replace(alias, name)
    return key


def _recipe(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    key = _canonical(key)
    if key.endswith("num_batches_tracked"):
        return torch.tensor(7)
    stream = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    u = stream.random(int(np.prod(shape))).reshape(shape) * 2 - 1
    leaf = key.rsplit(".", 1)[-1]
    if leaf in ("A_log", "A_b_log"):
        value = np.log(np.arange(1, shape[1] + 1)) + 0.2 * u
    elif leaf in ("D", "D_b", "a_D", "a_D_b", "v_D", "v_D_b"):
        value = 1 + 0.3 * u
    elif leaf == "running_var":
        value = 1 + 0.4 * u
    elif leaf == "running_mean":
        value = 0.2 * u
    elif leaf == "weight" and len(shape) == 1:
        value = 1 + 0.3 * u
    elif leaf == "bias":
        value = -4 + 2 * u if "dt_proj" in key else 0.1 * u
    else:
        value = u * np.sqrt(3 / np.prod(shape[1:]))
    return torch.from_numpy(value.astype(np.float32))


def _capture(model: DepMamba, got: dict[str, Any]) -> None:
    """Store intermediate results under the names that the cases use."""

    def keep(name: str, *, pair: bool) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            streams = output if isinstance(output, tuple) else (output,)
            suffixes = (".audio", ".video") if pair else ("",)
            for suffix, value in zip(suffixes, streams, strict=True):
                got[f"{name}{suffix}"] = value

        return hook

    model.conv_audio.register_forward_hook(keep("conv_audio_BCT", pair=False))
    model.conv_video.register_forward_hook(keep("conv_video_BCT", pair=False))
    for prefix, encoder, pair in (
        ("cossm", model.cossm_encoder, True),
        ("enssm", model.enssm_encoder, False),
    ):
        for i, (cnn, block) in enumerate(
            zip(encoder.cnn_layers, encoder.mamba_layers, strict=True)
        ):
            cnn.register_forward_hook(keep(f"{prefix}.cnn{i}_BCT", pair=pair))
            block.mamba.register_forward_hook(keep(f"{prefix}.mixer{i}", pair=pair))
            block.register_forward_hook(keep(f"{prefix}.block{i}", pair=pair))
        encoder.register_forward_hook(keep(f"{prefix}_out", pair=pair))
    model.output.register_forward_hook(lambda _m, inputs, _o: got.__setitem__("pooled", inputs[0]))


def run_model(case: Case) -> None:
    model = build(case)
    got: dict[str, Any] = {}
    _capture(model, got)
    given = leaves(case, ("x",))
    got["logit"] = model(given["x"], case.inputs.get("mask"))
    if case.grad:
        got["loss"] = loss_of(case, got)
        got["loss"].backward()
        add_gradients(got, model, given)
        assert_without_gradient(case, model)
    add_state(got, model, "buffer_after.")
    add_state(got, model, "after.")
    assert_outputs(case, got)


def run_padding_dependence(case: Case) -> None:
    model = build(case)
    got: dict[str, Any] = {}
    _capture(model, got)
    with torch.no_grad():
        padded = model(case.inputs["x_padded"], case.inputs["mask_padded"])
        got["enssm_out_padded"] = got["enssm_out"]
        got["logit"] = model(case.inputs["x"], case.inputs["mask"])
        got["logit_padded"] = padded
    assert_outputs(case, got)
    assert_close(case, "logit_alone", got["logit"].item(), case.info["logit_alone"])
    assert_close(case, "logit_padded", padded.item(), case.info["logit_padded"])


def run_mixer(case: Case) -> None:
    pair = case.info["kind"] == "mixer.mm_bimamba"
    config = {k: case.info["config"][k] for k in ("d_model", "d_state", "d_conv", "expand")}
    _run_layer(case, BiMamba(**config, pair=pair), pair=pair)


def run_cnn(case: Case) -> None:
    pair = case.info["kind"].startswith("MM")
    config = case.info["config"]
    layer = CnnLayer(config["input_size"], config["output_size"], config["dropout"], pair=pair)
    _run_layer(case, layer, pair=pair)


def _run_layer(case: Case, layer: nn.Module, *, pair: bool) -> None:
    assert case.weights is not None
    load_strict(layer, case.weights, "golden weights")
    layer.train(case.train)
    given = leaves(case, ("a", "v") if pair else ("x",))
    streams = layer(tuple(given.values()))
    got: dict[str, Any] = dict(zip(("y_a", "y_v") if pair else ("y",), streams, strict=True))
    if case.grad:
        loss_of(case, got).backward()
        add_gradients(got, layer, given)
    add_state(got, layer, "buffer_after.")
    assert_outputs(case, got)


def run_tmeannet(case: Case) -> None:
    config = case.info["config"]
    model = TMeanNet(config["last_dim"], tuple(config["hidden_sizes"]), config["dropout"])
    assert case.weights is not None
    load_strict(model, case.weights, "golden weights")
    model.train(case.train)
    got: dict[str, Any] = {}
    model.fcs.register_forward_hook(lambda _m, inputs, _o: got.__setitem__("pooled", inputs[0]))
    given = leaves(case, ("x",))
    got["logit"] = model(given["x"])
    if case.grad:
        loss_of(case, {**got, "y": got["logit"]}).backward()
        add_gradients(got, model, given)
    assert_outputs(case, got)


def run_adam(case: Case) -> None:
    model = build(case).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=_adam_lr(case.info["optimizer"]))
    y = case.inputs["y"].reshape(-1, 1).float()
    got: dict[str, Any] = {"losses": []}
    for _ in range(case.info["steps"]):
        logit = model(case.inputs["x"], case.inputs.get("mask"))
        loss = nn.functional.binary_cross_entropy_with_logits(logit, y)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        got["losses"].append(loss.item())
    add_state(got, model, "after.")
    with torch.no_grad():
        got["eval_logit_after"] = model.eval()(case.inputs["x"], case.inputs.get("mask"))
    assert_outputs(case, got)


def _adam_lr(text: str) -> float:
    return float(text.split("lr=")[1].split(",")[0])
