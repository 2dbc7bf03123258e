"""MMML beyond the golden cases: the published state dicts, backbones, heads, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mambabench.errors import EncoderError, ProtocolError
from mambabench.models.affect.mmml import CmeLayer, Fusion, FusionConfig, Modality, frame_mean
from mambabench.models.affect.mmml_audio import swapped_positions
from mambabench.models.affect.mmml_backbones import build_backbone, conv_length
from mambabench.models.affect.mmml_heads import AdaptedFusion, SceneHead, TextOnly

NAMES = (
    "rob_d2v_cc",
    "rob_d2v_cme_v1_n5",
    "rob_d2v_cme_v2_n5",
    "rob_d2v_cme_v3_n5",
    "rob_hub_cc",
    "rob_hub_cme_v1_n5",
    "rob_hub_cme_v2_n5",
    "rob_hub_cme_v3_n5",
    "rob_d2v_cc_context",
    "rob_d2v_cme_context_n5",
)


def _published(name: str) -> FusionConfig:
    context, cme = "context" in name, "cme" in name
    large = {"text_size": 1024} if context else {}
    if context and cme:
        large |= {"audio_size": 1024, "heads": 16, "ffn": 4096}
    version = next((v for v in ("v2", "v3") if v in name), "v1")
    return FusionConfig(
        fusion="cme" if cme else "cc",
        version=version,
        context=context,
        language="ch" if "hub" in name else "en",
        **large,
    )


@pytest.mark.parametrize("name", NAMES)
def test_fusion_state_dict_is_the_published_one(goldens_dir: Path, name: str) -> None:
    manifest = json.loads((goldens_dir / "affect/manifests/mmml.json").read_text())[name]
    with torch.device("meta"):
        model = Fusion(_published(name))
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == manifest[
        "fusion_state_dict"
    ]
    assert sum(p.numel() for p in model.parameters()) == manifest["param_count_fusion"]


TEXT = {
    "model_type": "roberta",
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 40,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
}
AUDIO = {
    "model_type": "data2vec-audio",
    "hidden_size": 8,
    "conv_dim": [4] * 7,
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_bias": False,
    "num_conv_pos_embeddings": 2,
    "num_conv_pos_embedding_groups": 2,
    "conv_pos_kernel_size": 5,
    "num_hidden_layers": 2,
    "intermediate_size": 12,
    "num_attention_heads": 2,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "layerdrop": 0.5,
    "layer_norm_eps": 1e-5,
    "mask_time_prob": 0.5,
    "mask_time_length": 3,
    "mask_time_min_masks": 1,
}


@pytest.mark.parametrize("name", ["rob_d2v_cc", "rob_hub_cme_v1_n5"])
def test_backbone_keys_are_the_published_ones(goldens_dir: Path, name: str) -> None:
    """At reduced width: the keys of one layer, of every position and of every convolution."""
    manifest = json.loads((goldens_dir / "affect/manifests/mmml.json").read_text())[name]
    published = set(manifest["backbone_state_dict"])
    hubert = "hub" in name
    text: dict[str, Any] = {**TEXT, "model_type": "bert" if hubert else "roberta"}
    audio: dict[str, Any] = {**AUDIO, "num_conv_pos_embeddings": 5}
    if hubert:
        audio |= {"model_type": "hubert", "feat_extract_norm": "group"}
    prefix = "hubert_model" if hubert else "data2vec_model"
    for model, start, n_layers, layer in (
        (build_backbone({**text, "num_hidden_layers": 12}), "roberta_model", 12, "encoder.layer"),
        (build_backbone({**audio, "num_hidden_layers": 12}), prefix, 12, "encoder.layers"),
    ):
        ours = {f"{start}.{key}" for key in model.state_dict()}
        theirs = {
            key.replace(".weight_g", ".parametrizations.weight.original0").replace(
                ".weight_v", ".parametrizations.weight.original1"
            )
            for key in published
            if key.startswith(f"{start}.") and "position_ids" not in key
        }
        assert ours == theirs
        assert any(f"{layer}.{n_layers - 1}." in key for key in ours)


def test_unsupported_backbones_are_refused() -> None:
    with pytest.raises(EncoderError, match="model_type 'robert' is not supported"):
        build_backbone({**TEXT, "model_type": "robert"})
    with pytest.raises(EncoderError, match="hidden_act 'relu' is not supported"):
        build_backbone({**TEXT, "hidden_act": "relu"})
    with pytest.raises(EncoderError, match="do_stable_layer_norm is true"):
        build_backbone({**AUDIO, "model_type": "hubert", "do_stable_layer_norm": True})


def test_frame_counts_follow_the_convolutions_and_wrap_below_one_frame() -> None:
    assert conv_length(torch.tensor(96000), AUDIO).item() == 299
    model = build_backbone(AUDIO)
    mask = torch.zeros(4, 4000)
    for row, n in zip(mask, (4000, 400, 399, 0), strict=True):
        row[:n] = 1
    assert model.frame_mask(mask, 12).sum(1).tolist() == [12, 1, 12, 11]


def test_spans_and_layers_are_dropped_in_training_only() -> None:
    model = build_backbone(AUDIO)
    audio, mask = torch.randn(2, 4000), torch.ones(2, 4000)
    with torch.no_grad():
        same = model.eval()(audio, mask)[0]
        torch.testing.assert_close(model(audio, mask)[0], same)
        model.train()
        found = {tuple(model(audio, mask)[0].flatten()[:3].tolist()) for _ in range(6)}
    assert len(found) > 1


def _modality(n: int = 3, text: int = 8, audio: int = 8) -> Modality:
    return Modality(
        torch.randn(n, 4, text),
        torch.randn(n, text),
        torch.ones(n, 4),
        torch.randn(n, 6, audio),
        torch.tensor([6] * n),
    )


def test_padding_never_reaches_a_fusion_network() -> None:
    for version in ("v1", "v2", "v3"):
        config = FusionConfig(
            version=version, text_size=8, audio_size=8, heads=2, ffn=8, n_layers=1, middle=4
        )
        model = Fusion(config).eval()
        part = _modality()
        longer = Modality(
            torch.cat((part.text_hidden, torch.randn(3, 2, 8)), 1),
            part.text_pooled,
            torch.cat((part.text_mask, torch.zeros(3, 2)), 1),
            torch.cat((part.audio_hidden, torch.randn(3, 5, 8)), 1),
            part.n_frames,
        )
        with torch.no_grad():
            for a, b in zip(model(part), model(longer), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_fusion_configurations_that_cannot_be() -> None:
    with pytest.raises(ProtocolError, match="cme needs text and audio of one width"):
        FusionConfig(text_size=8, audio_size=12)
    with pytest.raises(ProtocolError, match="no multiple of 12 heads"):
        FusionConfig(text_size=8, audio_size=8)
    with pytest.raises(ProtocolError, match="there is no v2 with context"):
        FusionConfig(version="v2", context=True)
    with pytest.raises(ProtocolError, match="takes no context"):
        Fusion(FusionConfig(fusion="cc"))(_modality(text=768, audio=768), _modality())


def test_layers_can_lose_their_parts() -> None:
    full = CmeLayer(8, 2, 16, 0.0)
    bare = CmeLayer(8, 2, 16, 0.0, self_attention=False, feed_forward=False)
    assert set(bare.state_dict()) < set(full.state_dict())
    text, audio = bare(
        torch.randn(2, 3, 8), torch.ones(2, 3), torch.randn(2, 4, 8), torch.ones(2, 4)
    )
    assert (text.shape, audio.shape) == ((2, 3, 8), (2, 4, 8))


def test_adapters_bring_stored_widths_to_the_network() -> None:
    config = FusionConfig(fusion="cc", text_size=6, audio_size=6, middle=4)
    model = AdaptedFusion(config, 8, 10)
    assert model(_modality(audio=10)).M.shape == (3, 1)
    plain = AdaptedFusion(FusionConfig(fusion="cc", text_size=8, audio_size=10, middle=4), 8, 10)
    assert not any("adapter" in key for key in plain.state_dict())


def test_single_sided_heads() -> None:
    out = TextOnly(8, 0.0, context=True)(_modality(), _modality())
    assert torch.equal(out.M, out.T)
    assert TextOnly(8, 0.0, context=False)(_modality()).A.shape == (3, 1)
    head = SceneHead(5, 4, 0.1).train()
    assert head(torch.randn(1, 5)).A.shape == (1, 1)
    assert head.norm.training


def test_frame_mean_ignores_what_follows() -> None:
    hidden = torch.arange(12.0).reshape(1, 6, 2)
    assert frame_mean(hidden, torch.tensor([2])).tolist() == [[1.0, 2.0]]


def test_swapped_positions_by_their_definition() -> None:
    import math

    code = swapped_positions(5, 4)
    for s in range(5):
        for e in range(4):
            angle = e * 10000 ** (-2 * (s // 2) / 6)
            want = math.sin(angle) if s % 2 == 0 else math.cos(angle)
            assert code[s, e].item() == pytest.approx(want, abs=1e-6)
