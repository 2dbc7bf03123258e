"""s3prl upstreams as encoders, and our encoders as s3prl upstreams.

s3prl itself is stood in for by a module with the same interface; the peer test runs the real one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from mambabench.errors import EncoderError
from mambabench.hear_api.check import check
from mambabench.hear_api.s3prl_upstream import register
from mambabench.models.registry import load_encoder


class Frames(torch.nn.Module):
    """An upstream of three layers with a hop of 10 ms, left in training mode as s3prl does."""

    def __init__(self, ckpt: str | None = None, **_: Any) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.weight = torch.nn.Parameter(torch.randn(3, 160, 5, generator=generator))
        self.dropout = torch.nn.Dropout(0.5)
        if ckpt:
            self.load_state_dict(torch.load(ckpt, weights_only=True))

    def get_downsample_rates(self, key: str) -> int:
        return 160

    def forward(self, wavs: list[torch.Tensor]) -> dict[str, list[torch.Tensor]]:
        frames = torch.stack(wavs).unfold(1, 160, 160)
        return {"hidden_states": [torch.tanh(self.dropout(frames) @ w) for w in self.weight]}


class Ragged(Frames):
    def forward(self, wavs: list[torch.Tensor]) -> dict[str, list[torch.Tensor]]:
        states = super().forward(wavs)["hidden_states"]
        return {"hidden_states": [states[0], states[1][:, ::2]]}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    package, module = ModuleType("s3prl"), ModuleType("s3prl.hub")
    package.__path__ = []
    package.hub = module  # type: ignore[attr-defined]
    module.frames, module.ragged = Frames, Ragged  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "s3prl", package)
    monkeypatch.setitem(sys.modules, "s3prl.hub", module)
    return module


def test_upstream_becomes_an_encoder(hub: ModuleType) -> None:
    encoder = load_encoder("s3prl@frames", device="cpu")
    audio = torch.rand(2, 8000) - 0.5
    frames, times_ms = encoder.timestamps(audio, (0, 2))
    assert frames.shape == (2, 50, 2, 5)
    assert encoder.n_hidden_states == 3
    assert times_ms[0, :3].tolist() == [5.0, 15.0, 25.0]
    network = Frames().eval()
    expected = network(list(audio))["hidden_states"]
    assert torch.equal(frames[:, :, 1], expected[2])
    assert torch.allclose(encoder.scene(audio, None)[:, 0], expected[2].mean(1))
    assert encoder.label.startswith("s3prl@")


def test_upstream_passes_the_check(hub: ModuleType) -> None:
    report = check("s3prl@frames", device="cpu", long_s=20.0)
    assert report.passed, report


def test_upstream_with_a_checkpoint(hub: ModuleType, tmp_path: Path) -> None:
    network = Frames()
    with torch.no_grad():
        network.weight.mul_(0.5)
    torch.save(network.state_dict(), tmp_path / "w.pt")
    tuned = load_encoder(f"s3prl@frames:{tmp_path / 'w.pt'}", device="cpu")
    assert tuned.identity != load_encoder("s3prl@frames", device="cpu").identity


def test_faulty_upstreams_are_named(hub: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EncoderError, match=r"no upstream 'frame'; did you mean 'frames'"):
        load_encoder("s3prl@frame", device="cpu")
    with pytest.raises(EncoderError, match="'ragged' gives hidden states of different shapes"):
        load_encoder("s3prl@ragged", device="cpu")
    encoder = load_encoder("s3prl@frames", device="cpu")
    with pytest.raises(EncoderError, match="layer 3 is asked for; the s3prl upstream 'frames'"):
        encoder.scene(torch.rand(1, 8000), (3,))
    monkeypatch.setitem(sys.modules, "s3prl.hub", None)
    monkeypatch.delattr(sys.modules["s3prl"], "hub")
    with pytest.raises(EncoderError, match=r"s3prl cannot be imported .*install it in this env"):
        load_encoder("s3prl@frames", device="cpu")


@pytest.mark.parametrize(("name", "hop"), [("ssam_tiny_random", 640), ("logmel_stats", 800)])
def test_encoder_becomes_an_upstream(hub: ModuleType, name: str, hop: int) -> None:
    upstream = register(name)
    assert upstream == f"mambabench_{name}"
    expert = getattr(hub, upstream)(ckpt=None, model_config=None, refresh=False)
    assert expert.get_downsample_rates("hidden_states") == hop
    wavs = [torch.rand(n) - 0.5 for n in (16000, 9000, 16000)]
    states = expert(wavs)["hidden_states"]
    encoder = load_encoder(name, device="cpu")
    assert len(states) == encoder.n_hidden_states
    assert len({s.shape for s in states}) == 1
    assert abs(states[0].shape[1] - 16000 / hop) < 5
    alone, _ = encoder.timestamps(wavs[1][None], tuple(range(encoder.n_hidden_states)))
    n_frames = alone.shape[1]
    assert abs(n_frames - 9000 / hop) < 5
    for i, state in enumerate(states):
        assert torch.allclose(state[1, :n_frames], alone[0, :, i], atol=1e-5)
        assert not state[1, n_frames:].any()


def test_upstream_can_be_fine_tuned(hub: ModuleType) -> None:
    expert = getattr(hub, register("ssam_tiny_random"))()
    states = expert([torch.rand(8000) - 0.5])["hidden_states"]
    states[-1].sum().backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in expert.parameters())


def test_names_of_s3prl_are_not_taken(hub: ModuleType) -> None:
    with pytest.raises(EncoderError, match="has an upstream 'frames' of its own"):
        register("logmel_stats", upstream="frames")
    register("logmel_stats", upstream="mine")
    register("logmel_stats", upstream="mine")  # again is fine
