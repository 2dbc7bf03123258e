"""End to end with local model directories: tiny random RoBERTa, BERT, data2vec and HuBERT."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mambabench.benchmarks.sentiment import generated
from mambabench.errors import EncoderError, ProtocolError
from mambabench.models.affect import hugging_face
from mambabench.models.affect.mmml_backbones import build_backbone
from mambabench.store.texts import load_text_encoder
from mambabench.train.evaluate import evaluate
from mambabench.train.state import load_tensors
from mambabench.train.verb import train

TEXT = {
    "vocab_size": 40,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 60,
    "type_vocab_size": 1,
    "pad_token_id": 1,
}
AUDIO = {
    "hidden_size": 8,
    "conv_dim": [4] * 7,
    "num_conv_pos_embeddings": 3,
    "num_conv_pos_embedding_groups": 2,
    "conv_pos_kernel_size": 5,
    "num_hidden_layers": 1,
    "intermediate_size": 8,
    "num_attention_heads": 2,
}


def _directory(path: Path, kind: str, *, prefix: str = "", binary: bool = False) -> Path:
    path.mkdir(parents=True)
    base = TEXT if kind in ("roberta", "bert") else AUDIO
    (path / "config.json").write_text(json.dumps({**base, "model_type": kind}))
    module = build_backbone(hugging_face.backbone_config(path))
    state = {f"{prefix}{k}": v.clone() for k, v in module.state_dict().items()}
    state["lm_head.bias"] = torch.zeros(3)  # heads of pretraining are left aside
    if binary:
        torch.save(state, path / "pytorch_model.bin")
    else:
        save_file(state, path / "model.safetensors")
    return path


def _fake_tokenizer(directory: Path, max_tokens: int) -> Any:
    def tokenise(texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        ids = torch.ones(len(texts), max_tokens, dtype=torch.long)
        for row, text in zip(ids, texts, strict=True):
            words = [0, *(3 + len(word) % 30 for word in text.split()), 2][:max_tokens]
            row[: len(words)] = torch.tensor(words)
        return ids, (ids != 1).long()

    return tokenise


@pytest.mark.parametrize("kind", ["roberta", "bert", "data2vec-audio", "hubert"])
def test_directories_load_with_and_without_prefix(tmp_path: Path, kind: str) -> None:
    plain, one = hugging_face.load_backbone(_directory(tmp_path / "a", kind))
    binary = _directory(tmp_path / "b", kind, prefix=f"{kind}.", binary=True)
    (binary / "config.json").write_bytes((tmp_path / "a" / "config.json").read_bytes())
    prefixed, two = hugging_face.load_backbone(binary)
    assert set(plain.state_dict()) == set(prefixed.state_dict())
    assert one != two


def test_directories_that_lack_something(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"config\.json is missing"):
        hugging_face.load_backbone(tmp_path)
    folder = _directory(tmp_path / "a", "roberta")
    state = {"embeddings.word_embeddings.weight": torch.zeros(40, 8)}
    save_file(state, folder / "model.safetensors")
    with pytest.raises(EncoderError, match=r"missing: embeddings.LayerNorm.bias"):
        hugging_face.load_backbone(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match=r"neither model.safetensors nor pytorch_model.bin"):
        hugging_face.load_backbone(folder)


def test_a_text_directory_is_a_text_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _directory(tmp_path / "tiny-roberta", "roberta")
    monkeypatch.setattr(hugging_face, "load_tokenizer", _fake_tokenizer)
    encoder = load_text_encoder(str(folder), max_tokens=12)
    assert (encoder.name, encoder.dim) == ("tiny-roberta", 8)
    together = encoder.encode(["a bb", "a bb ccc dddd"])
    alone = encoder.encode(["a bb"])[0]
    assert [len(t.hidden) for t in together] == [4, 6]
    torch.testing.assert_close(
        torch.from_numpy(together[0].hidden), torch.from_numpy(alone.hidden), rtol=0, atol=1e-6
    )
    audio = _directory(tmp_path / "tiny-hubert", "hubert")
    with pytest.raises(EncoderError, match="holds an audio model"):
        load_text_encoder(str(audio))


def test_tokenising_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EncoderError, match=r"pip install 'mambabench\[hf\]'"):
        hugging_face.load_tokenizer(tmp_path, 8)


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(generated, "_SPLITS", (("train", 8), ("valid", 4), ("test", 8)))
    generated.generate(tmp_path / "corpus")
    return tmp_path / "corpus"


SETTINGS = {
    "task": "generated",
    "heads": 2,
    "n_layers": 1,
    "ffn": 8,
    "middle": 4,
    "context_middle": 4,
    "batch_size": 4,
    "max_epochs": 1,
    "lr": 0.001,
    "max_tokens": 16,
    "max_samples": 4000,
}


@pytest.mark.slow
@pytest.mark.parametrize("context", [False, True])
def test_end_to_end_learns_everything_but_the_convolutions(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, context: bool
) -> None:
    monkeypatch.setattr(hugging_face, "load_tokenizer", _fake_tokenizer)
    text = _directory(tmp_path / "text", "roberta")
    audio = _directory(tmp_path / "audio", "data2vec-audio")
    settings = {
        **SETTINGS,
        "input": "tokens",
        "context": context,
        "text_dir": str(text),
        "audio_dir": str(audio),
    }
    done = train("mmml", data=corpus, out=tmp_path / "out", settings=settings, seeds=[1])
    assert not done.failed, done.seeds[0].error
    folder = done.seeds[0].folder
    after, _ = load_tensors(folder / "weights.safetensors")
    before, _ = hugging_face.load_backbone(audio)
    for key, value in before.state_dict().items():
        same = torch.equal(value, after[f"data2vec_model.{key}"])
        if key.startswith("feature_extractor"):
            assert same, key
    start, _ = hugging_face.load_backbone(text)
    moved = after["roberta_model.embeddings.LayerNorm.weight"]
    assert not torch.equal(start.state_dict()["embeddings.LayerNorm.weight"], moved)
    (row,) = evaluate(folder.parent, n_resamples=5).rows
    assert row["result"]["n_sessions"] == 8


@pytest.mark.slow
def test_raw_audio_needs_its_directory(corpus: Path, tmp_path: Path) -> None:
    settings = {**SETTINGS, "input": "raw", "tasks": "A", "loss": "MSE"}
    with pytest.raises(ProtocolError, match="needs audio_dir"):
        train("mmml", data=corpus, out=tmp_path / "x", settings=settings, seeds=[1])
    audio = _directory(tmp_path / "audio", "hubert")
    settings["audio_dir"] = str(audio)
    done = train("mmml", data=corpus, out=tmp_path / "out", settings=settings, seeds=[1])
    assert not done.failed, done.seeds[0].error
