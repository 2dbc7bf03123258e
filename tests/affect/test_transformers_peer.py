"""The backbones against transformers itself, in an environment that has it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mambabench.models.affect import hugging_face

AUDIO = {
    "hidden_size": 16,
    "conv_dim": [8] * 7,
    "num_conv_pos_embedding_groups": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 12,
    "num_attention_heads": 2,
}
TEXT = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 60,
}


@pytest.mark.peer
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("Hubert", {"num_conv_pos_embeddings": 6}),
        ("Data2VecAudio", {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 5}),
    ],
)
def test_audio_backbones_equal_transformers(
    tmp_path: Path, name: str, more: dict[str, int]
) -> None:
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{name}Config")(**AUDIO, **more)
    theirs = getattr(transformers, f"{name}Model")(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = hugging_face.load_backbone(tmp_path)[0].eval()
    mask = torch.ones(2, 4000, dtype=torch.long)
    mask[1, 2500:] = 0
    audio = torch.randn(2, 4000) * mask
    with torch.no_grad():
        want = theirs(audio, attention_mask=mask).last_hidden_state
        got, n_frames = ours(audio, mask)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    assert n_frames.tolist() == [12, 7]


@pytest.mark.peer
@pytest.mark.parametrize(("name", "more"), [("Roberta", {"type_vocab_size": 1}), ("Bert", {})])
def test_text_backbones_equal_transformers(tmp_path: Path, name: str, more: dict[str, int]) -> None:
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{name}Config")(**TEXT, **more)
    theirs = getattr(transformers, f"{name}Model")(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = hugging_face.load_backbone(tmp_path)[0].eval()
    ids = torch.randint(3, 40, (2, 9))
    mask = torch.ones_like(ids)
    ids[1, 6:] = config.pad_token_id
    mask[1, 6:] = 0
    with torch.no_grad():
        want = theirs(ids, attention_mask=mask)
        hidden, pooled = ours(ids, mask)
    torch.testing.assert_close(pooled, want.pooler_output, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        hidden[mask.bool()], want.last_hidden_state[mask.bool()], rtol=1e-4, atol=1e-5
    )
