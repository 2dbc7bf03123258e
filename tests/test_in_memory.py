"""An encoder in memory: its own identity, its own device and mode, and left as it was."""

from __future__ import annotations

import random
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import mambabench
from mambabench import in_memory
from mambabench.benchmarks.demo import generate
from mambabench.errors import EncoderError
from mambabench.report.flags import letters
from mambabench.report.formats import FORMATS


class Net(torch.nn.Module):
    sample_rate = 16000

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(257, 8)
        self.drop = torch.nn.Dropout(0.5)
        self.layer.bias.requires_grad_(False)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        hann = torch.hann_window(512)
        spectrum = torch.stft(audio, 512, 160, window=hann, return_complex=True).abs()
        torch.rand(3), np.random.rand(), random.random()
        return self.drop(self.layer(spectrum.log1p().mean(2)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest scene task of the demo."""
    folders = generate(tmp_path_factory.mktemp("demo"))
    return next(f for f in folders if '"scene"' in (f / "task_metadata.json").read_text())


def _state() -> tuple[object, ...]:
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]


def test_it_leaves_everything_as_it_was(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    net = Net().train()
    net.layer.eval()
    net.layer(torch.ones(1, 257)).sum().backward()
    gradient, before, threads = net.layer.weight.grad, _state(), torch.get_num_threads()
    given = {"scene": net, "protocol": "linear", "max_clips": 6, "out": tmp_path}
    with torch.no_grad():
        frame = mambabench.evaluate_encoder(net, folder, **given)
    assert _state() == before
    assert torch.get_num_threads() == threads
    assert net.training
    assert net.drop.training
    assert not net.layer.training
    assert net.layer.weight.grad is gradient
    assert net.layer.weight.requires_grad
    assert not net.layer.bias.requires_grad
    assert capsys.readouterr() == ("", "")
    assert frame["score"].notna().all()
    assert len(frame) >= 1
    assert set(frame["task"]) == {f"{folder.name}.max6"}
    assert torch.is_grad_enabled()
    stores = sorted((tmp_path / "embeddings").glob("*/*/manifest.json"))
    written = stores[0].stat().st_mtime_ns
    again = mambabench.evaluate_encoder(net, folder, **given)
    assert again.equals(frame)
    assert stores[0].stat().st_mtime_ns == written
    with torch.no_grad():
        net.layer.weight += 0.1
    other = mambabench.evaluate_encoder(net, folder, **given)
    assert set(other["encoder"]).isdisjoint(frame["encoder"])
    assert "in-memory" not in mambabench.models.registry.encoder_names()


def test_three_kinds_of_objects_are_one_encoder(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Net().eval()
    module = types.ModuleType("given")
    net.scene_embedding_size = net.timestamp_embedding_size = 8
    module.load_model = lambda: net  # type: ignore[attr-defined]
    module.get_scene_embeddings = lambda audio, model: model(audio)  # type: ignore[attr-defined]
    module.get_timestamp_embeddings = lambda audio, model: None  # type: ignore[attr-defined]

    class Holder:
        sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 8, 8

        def get_scene_embeddings(self, audio: torch.Tensor) -> torch.Tensor:
            return net(audio)

        def get_timestamp_embeddings(self, audio: torch.Tensor) -> None:
            return None

    given = {"protocol": "linear", "max_clips": 6, "out": tmp_path}
    scores = [
        mambabench.evaluate_encoder(net, folder, scene=net, **given)["score"].tolist(),
        mambabench.evaluate_encoder(module, folder, **given)["score"].tolist(),
        mambabench.evaluate_encoder(Holder(), folder, **given)["score"].tolist(),
    ]
    assert scores[0] == scores[1] == scores[2]


def test_a_quick_look_is_never_mixed_with_full_results(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    for name in ("one", "other"):
        net, given = Net(), {"protocol": "linear", "seeds": 1, "out": tmp_path, "name": name}
        mambabench.evaluate_encoder(net, folder, scene=net, **given)
        quick = mambabench.evaluate_encoder(net, folder, scene=net, max_clips=6, **given)
        assert set(quick["task"]) == {f"{folder.name}.max6"}
    summary = mambabench.report(tmp_path).summary
    shown = {row.task: (row.protocol, letters(row.flags)) for row in summary.rows}
    assert shown == {
        folder.name: ("linear", ""),
        f"{folder.name}.max6": ("linear (max 6)", " [L]"),
    }
    assert {rank.n_tasks for rank in summary.ranks} <= {1}
    assert {overall.n_tasks for overall in summary.overall} <= {1}
    for format in FORMATS:
        if format != "bibtex" and not FORMATS[format].binary:
            text = mambabench.report(tmp_path, format).text
            assert ("max6" if format == "jsonl" else "(max 6)") in text, format


@pytest.mark.parametrize("hold", [lambda n: [n], lambda n: (n,), lambda n: {"a": n}])
def test_networks_that_an_object_holds_are_seen(
    folder: Path, tmp_path: Path, hold: Callable[[Net], object]
) -> None:
    """Their mode and running statistics are kept, and their weights are the identity."""

    class Normed(Net):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(8)

        def forward(self, audio: torch.Tensor) -> torch.Tensor:
            return self.norm(super().forward(audio))

    class Holder:
        sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 8, 8

        def __init__(self, net: Net) -> None:
            self.nets = hold(net)

        def get_scene_embeddings(self, audio: torch.Tensor) -> torch.Tensor:
            return net(audio)

        def get_timestamp_embeddings(self, audio: torch.Tensor) -> None:
            return None

    class Outer(torch.nn.Module):
        sample_rate = 16000

        def __init__(self, net: Net) -> None:
            super().__init__()
            self.nets = hold(net)

        def forward(self, audio: torch.Tensor) -> torch.Tensor:
            return net(audio)

    torch.manual_seed(0)
    net = Normed().train()
    net.layer.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    given = {"protocol": "linear", "seeds": 1, "max_clips": 6, "out": tmp_path}
    outer = Outer(net)
    for model, scene in ((Holder(net), None), (outer, outer)):
        labels = set()
        for _ in range(2):
            frame = mambabench.evaluate_encoder(model, folder, scene=scene, **given)
            labels |= set(frame["encoder"])
            assert net.training
            assert net.norm.training
            assert not net.layer.training
            assert net.layer.weight.requires_grad
            for name, value in net.state_dict().items():
                assert torch.equal(value, before[name]), name
            net.norm.running_mean += 1.0
            before["norm.running_mean"] += 1.0
        assert len(labels) == 2


def test_random_states_of_all_devices_of_a_model_are_kept() -> None:
    class Spread(torch.nn.Module):
        def parameters(self, recurse: bool = True) -> Iterator[torch.nn.Parameter]:
            return iter([SimpleNamespace(device=torch.device(d)) for d in ("cuda:2", "cpu")])  # type: ignore[list-item]

        def buffers(self, recurse: bool = True) -> Iterator[torch.Tensor]:
            return iter([SimpleNamespace(device=torch.device("cuda:1"))])  # type: ignore[list-item]

    assert set(in_memory._cuda_devices(Spread())) >= {1, 2}
    if not torch.cuda.is_initialized():
        assert in_memory._cuda_devices(Net()) == []


def test_what_cannot_be_evaluated_says_why(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="cannot evaluate int: give a HEAR module"):
        mambabench.evaluate_encoder(3, folder)
    with pytest.raises(EncoderError, match="no sample_rate: give sample_rate="):
        mambabench.evaluate_encoder(torch.nn.Linear(3, 4), folder, scene=lambda a: a)
    with pytest.raises(EncoderError, match="registered encoder: choose another name"):
        mambabench.evaluate_encoder(Net(), folder, scene=Net(), name="logmel_stats", out=tmp_path)
