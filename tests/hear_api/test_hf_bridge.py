"""Hugging Face models as encoders, and our encoders as Hugging Face models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mambabench.errors import EncoderError
from mambabench.models.registry import load_encoder

transformers = pytest.importorskip("transformers", reason="the extra [hf] is not installed")
from mambabench.hear_api.check import check  # noqa: E402
from mambabench.hear_api.hf_export import MambabenchConfig, MambabenchModel, export  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:At least one mel filter")

SMALL: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
WAVE = SMALL | {
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
PATCHES = SMALL | {"max_length": 128, "num_mel_bins": 128}


def saved(folder: Path, kind: str) -> str:
    """Write a tiny random model of `kind` with its feature extractor."""
    torch.manual_seed(1)
    if kind == "ast":
        model = transformers.ASTModel(transformers.ASTConfig(**PATCHES))
        extractor = transformers.ASTFeatureExtractor(max_length=128)
    else:
        classes = {
            "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
            "wav2vec2-stable": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
            "hubert": (transformers.HubertConfig, transformers.HubertModel),
            "wavlm": (transformers.WavLMConfig, transformers.WavLMModel),
        }
        config, cls = classes[kind]
        stable = {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}
        model = cls(config(**WAVE, **(stable if "stable" in kind else {})))
        extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return str(folder)


KINDS = ["wav2vec2", "wav2vec2-stable", "hubert", "wavlm", "ast"]


@pytest.mark.parametrize("kind", KINDS)
def test_check_passes(kind: str, tmp_path: Path) -> None:
    report = check(f"hf@{saved(tmp_path / kind, kind)}", device="cpu", long_s=15.0)
    assert report.passed, report


@pytest.mark.parametrize("kind", KINDS)
def test_equal_to_the_model_itself(kind: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / kind, kind)
    encoder = load_encoder(f"hf@{folder}", device="cpu")
    assert encoder.label == f"hf@{encoder.identity[:8]}"
    assert encoder.n_hidden_states == 3
    audio = torch.rand(2, 16000) - 0.5
    model = transformers.AutoModel.from_pretrained(folder).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    values = extractor(list(audio.numpy()), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        output = model(values["input_values"], output_hidden_states=True)
    frames, times_ms = encoder.timestamps(audio, (0, 2))
    if kind == "ast":
        tokens = output.last_hidden_state[:, 2:].unflatten(1, (12, 12)).mean(1)
        expected = tokens[:, : frames.shape[1]]
        assert torch.allclose(times_ms[0, 1] - times_ms[0, 0], torch.tensor(100.0))
        scene = output.last_hidden_state[:, :2].mean(1)
    else:
        expected = output.last_hidden_state
        assert torch.allclose(frames[:, :, 0], output.hidden_states[0], atol=1e-6)
        assert float(times_ms[0, 1] - times_ms[0, 0]) == pytest.approx(20.0)
        assert float(times_ms[0, 0]) == pytest.approx(12.5)
        scene = expected.mean(1)
    assert torch.allclose(frames[:, :, 1], expected, atol=1e-6)
    assert torch.allclose(encoder.scene(audio, None)[:, 0], scene, atol=1e-6)


def test_identity_follows_weights_and_settings(tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", "hubert")
    first = load_encoder(f"hf@{folder}", device="cpu").identity
    assert load_encoder(f"hf@{folder}", device="cpu").identity == first
    model = transformers.AutoModel.from_pretrained(folder)
    with torch.no_grad():
        next(model.parameters())[0] += 0.5
    model.save_pretrained(folder)
    assert load_encoder(f"hf@{folder}", device="cpu").identity != first


def test_faults_are_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"name the model's folder: hf@FOLDER"):
        load_encoder("hf", device="cpu")
    with pytest.raises(EncoderError, match=r"holds no config\.json: give a local folder"):
        load_encoder(f"hf@{tmp_path}", device="cpu")
    bert = transformers.BertConfig(**SMALL)
    transformers.BertModel(bert).save_pretrained(tmp_path / "bert")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "bert")
    with pytest.raises(EncoderError, match="is of the kind 'bert': only models"):
        load_encoder(f"hf@{tmp_path / 'bert'}", device="cpu")
    encoder = load_encoder(f"hf@{saved(tmp_path / 'w', 'wavlm')}", device="cpu")
    with pytest.raises(EncoderError, match="layer 7 is asked for; the model has 0 to 2"):
        encoder.scene(torch.rand(1, 8000), (7,))


EXPORTED = [
    "ssam_tiny_random",
    "ssast_tiny_random",
    "ssamba_tiny_random",
    "ssamba_tiny_random:pooling=columns,hop_ms=40",
    "aum_tiny_random",
    "logmel_stats",
]


@pytest.mark.parametrize("name", EXPORTED)
def test_export_round_trip_is_bit_equal(name: str, tmp_path: Path) -> None:
    encoder = load_encoder(name, device="cpu")
    export(encoder, tmp_path)
    model = transformers.AutoModel.from_pretrained(tmp_path)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(tmp_path)
    audio = torch.rand(2, 12000) - 0.5
    inputs = extractor(list(audio.numpy()), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        output = model(**inputs, output_hidden_states=True)
    frames, _ = encoder.timestamps(audio, tuple(range(encoder.n_hidden_states)))
    assert torch.equal(output.pooler_output, encoder.scene(audio, None)[:, 0])
    assert torch.equal(output.last_hidden_state, encoder.timestamps(audio, None)[0][:, :, 0])
    assert len(output.hidden_states) == encoder.n_hidden_states
    for i, state in enumerate(output.hidden_states):
        assert torch.equal(state, frames[:, :, i])
    model.save_pretrained(tmp_path / "again")
    first = (tmp_path / "model.safetensors").read_bytes()
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == first


def test_clips_of_other_lengths_do_not_see_each_other(tmp_path: Path) -> None:
    model = export(load_encoder("logmel_stats", device="cpu"), tmp_path)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(tmp_path)
    short, long = torch.rand(9000) - 0.5, torch.rand(16000) - 0.5
    both = model(**extractor([short.numpy(), long.numpy()], return_tensors="pt"))
    alone = model(**extractor(short.numpy(), return_tensors="pt"))
    assert torch.equal(both.pooler_output[:1], alone.pooler_output)
    n_frames = alone.last_hidden_state.shape[1]
    assert torch.equal(both.last_hidden_state[:1, :n_frames], alone.last_hidden_state)
    assert not both.last_hidden_state[0, n_frames:].any()
    with pytest.raises(EncoderError, match="audio at 8000 Hz, but the encoder hears 16000 Hz"):
        extractor(short.numpy(), sampling_rate=8000)


def test_random_model_from_configuration_has_gradients() -> None:
    model = transformers.AutoModel.from_config(MambabenchConfig(encoder="ssam_tiny"))
    assert isinstance(model, MambabenchModel)
    model(torch.rand(1, 8000) - 0.5).pooler_output.sum().backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert sum(g is not None and bool(g.any()) for g in gradients) > 20


def test_export_runs_as_encoder_again(tmp_path: Path) -> None:
    encoder = load_encoder("ssam_tiny_random", device="cpu")
    export(encoder, tmp_path)
    again = load_encoder(f"hf@{tmp_path}", device="cpu")
    audio = torch.rand(1, 16000) - 0.5
    assert torch.equal(again.scene(audio, (3, 12)), encoder.scene(audio, (3, 12)))
