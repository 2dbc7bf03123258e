"""Training MMML on stored features: rules, resume, contexts, baselines, audio front-ends."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mambabench.benchmarks.affect import read_affect
from mambabench.benchmarks.sentiment import generated
from mambabench.errors import DataError, ProtocolError, StoreError
from mambabench.models.affect.mmml import FusionOutput
from mambabench.train import fusion_data
from mambabench.train.audio_inputs import mel_spectrogram, smile_features, spec_input
from mambabench.train.batches import Batch, Epochs
from mambabench.train.evaluate import evaluate
from mambabench.train.mmml import Rules, fit, fusion_batch
from mambabench.train.settings import MmmlSettings
from mambabench.train.sources import Sources
from mambabench.train.systems import mmml as mmml_system
from mambabench.train.verb import train

TINY = {
    "fusion": "cme",
    "task": "generated",
    "hidden": 8,
    "heads": 2,
    "n_layers": 1,
    "ffn": 8,
    "middle": 4,
    "mixed_ffn": 8,
    "lr": 0.003,
    "batch_size": 16,
    "max_epochs": 2,
}


class _Two(nn.Module):
    """One weight per head; the smallest model that the loop can train."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((3,), 5.0))

    def forward(self, x: torch.Tensor) -> FusionOutput:
        return FusionOutput(*(w * x[:, None] * 0 + w for w in self.weight))


def _batches(n: int = 2, value: float = 1.0) -> Iterator[Batch]:
    for _ in range(n):
        targets = {h: torch.tensor([value, -value, value]) for h in "MTA"}
        yield fusion_batch((torch.ones(3),), targets)


def test_weights_decay_as_adamw_and_the_optimiser_is_new_in_every_epoch() -> None:
    """A head outside the loss has no gradient; one inside moves by lr, and decays by lr * 0.01."""
    for one, count in ((False, 2), (True, 2)):
        model = _Two()
        rules = Rules(tasks="M", lr=0.1, max_epochs=count, one_optimiser=one)
        fit(model, Epochs(lambda _e: _batches(1), 1), lambda: _batches(1), rules)
        expected = 5.0
        for _ in range(count):  # constant gradient: Adam's normalised step is 1 either way
            expected = expected * (1 - 0.1 * 0.01) - 0.1
        assert model.weight[0].item() == pytest.approx(expected, abs=1e-5)


def test_a_new_optimiser_forgets_its_moments() -> None:
    """Gradients +1 then -1: fresh moments step fully back, kept ones do not."""
    found = {}
    for one in (False, True):
        model = _Two()
        rules = Rules(tasks="M", lr=0.1, weight_decay=0.0, max_epochs=2, one_optimiser=one)

        def epoch(e: int) -> Iterator[Batch]:
            value = -9.0 if e == 0 else 9.0
            yield fusion_batch((torch.ones(1),), {h: torch.tensor([value]) for h in "MTA"})

        fit(model, Epochs(epoch, 1), lambda: _batches(1), rules)
        found[one] = model.weight[0].item()
    assert found[False] == pytest.approx(5.0, abs=1e-5)
    assert abs(found[True] - 5.0) > 0.01


def test_training_stops_when_the_loss_has_not_fallen() -> None:
    rules = Rules(tasks="MTA", lr=1e-12, early_stop=3)
    result = fit(_Two(), Epochs(lambda _e: _batches(1), 1), lambda: _batches(1), rules)
    assert len(result.history) == 4  # the first epoch is the best, three more
    assert (result.best_loss_epoch, result.best_accuracy_epoch) == (0, 3)  # strict, and latest


def test_losses_are_means_over_items_and_mse_where_asked() -> None:
    def uneven() -> Iterator[Batch]:
        for size, value in ((3, 1.0), (1, 9.0)):
            yield fusion_batch((torch.ones(size),), {h: torch.full((size,), value) for h in "MTA"})

    for loss, want in (("L1", (3 * 4 + 4) / 4), ("MSE", 16.0)):
        rules = Rules(tasks="A", loss=loss, lr=0.0, max_epochs=1)
        result = fit(_Two(), Epochs(lambda _e: uneven(), 2), uneven, rules)
        assert result.history[0]["train"]["Loss"] == pytest.approx(want)
        assert result.history[0]["val"]["Loss"] == pytest.approx(want)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small generated corpus with stored texts and frames, made by the verbs themselves."""
    from mambabench.benchmarks.sentiment.prepare import prepare
    from mambabench.extract.verb import extract
    from mambabench.store.texts import extract_texts

    out = tmp_path_factory.mktemp("stores")
    splits, generated._SPLITS = generated._SPLITS, (("train", 32), ("valid", 12), ("test", 16))
    try:
        generated.generate(out / "corpus")
    finally:
        generated._SPLITS = splits
    prepare("generated", out / "corpus", out / "tasks")
    extract(encoder=("logmel_stats",), tasks=(out / "tasks",), out=out, jobs=1)
    extract_texts("words:8", [out / "tasks"], (), out)
    return out


def _train(stores: Path, out: Path, **changes: Any) -> Any:
    more = {k: changes.pop(k) for k in list(changes) if k in ("resume", "progress")}
    return train(
        "mmml",
        store=stores,
        out=out,
        data=stores / "corpus",
        seeds=[1],
        settings={**TINY, **changes},
        **more,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "v2"},
        {"version": "v3", "tasks": "TMA"},
        {"fusion": "cc", "tasks": "A"},
        {"fusion": "cc", "context": True},
        {"context": True, "context_middle": 4},
        {"fusion": "text", "context": True},
        {"fusion": "text"},
        {"input": "scene", "tasks": "A", "scene_hidden": 4},
        {"input": "spec", "tasks": "A", "loss": "MSE", "max_samples": 9600},
    ],
    ids=lambda c: "-".join(str(v) for v in c.values()),
)
def test_every_variant_trains_and_is_evaluated(
    stores: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    done = _train(stores, tmp_path, **{"max_epochs": 1, **changes})
    assert not done.failed, done.seeds[0].error
    (row,) = evaluate(done.seeds[0].folder.parent, n_resamples=10).rows
    assert row["columns"] == list(row["published_columns"]["mean"])
    assert row["result"]["n_sessions"] == 16
    assert row["selection"] == "lowest validation loss on valid"


def test_a_run_cut_off_continues_with_equal_bytes(stores: Path, tmp_path: Path) -> None:
    whole = _train(stores, tmp_path / "a").seeds[0].folder

    def stop(_name: str, _seed: int, row: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _train(stores, tmp_path / "b", progress=stop)
    cut = _train(stores, tmp_path / "b", resume=True).seeds[0]
    assert cut.state == "resumed"
    for name in ("weights.safetensors", "weights-other-rule.safetensors", "run.json", "log.jsonl"):
        assert (cut.folder / name).read_bytes() == (whole / name).read_bytes()


def test_one_rule_is_declared_and_the_other_kept(stores: Path, tmp_path: Path) -> None:
    loss = _train(stores, tmp_path / "loss").seeds[0]
    accuracy = _train(stores, tmp_path / "acc", select="acc").seeds[0]
    assert accuracy.result["selection"]["rule"] == "highest validation accuracy"
    kept = (loss.folder / "weights-other-rule.safetensors").read_bytes()
    assert kept == (accuracy.folder / "weights.safetensors").read_bytes()


def test_contexts_come_from_the_clips_before(stores: Path) -> None:
    settings = MmmlSettings(task="generated", context=True)
    data = fusion_data.open_data(settings, Sources(store=stores), ("train",))
    affect = read_affect(stores / "tasks" / "generated")
    assert affect is not None
    by_name = {item.name: item.inputs for item in data.items["train"]}
    first, second = by_name["video0000__0.wav"], by_name["video0000__1.wav"]
    np.testing.assert_array_equal(second.context_audio, first.audio)
    assert first.context_audio.shape[0] == 1
    assert not first.context_audio.any()
    now, before = data.collate(data.items["train"][:4])
    assert now.text_hidden.shape[0] == 4
    assert before.n_frames.min() >= 1


def test_stores_that_are_not_there(stores: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no embeddings of task 'mosi_frames'"):
        fusion_data.open_data(MmmlSettings(), Sources(store=stores))
    with pytest.raises(StoreError, match="of task 'generated_frames' of ssam \\(but") as told:
        fusion_data.open_data(MmmlSettings(task="generated"), Sources(store=stores, encoder="ssam"))
    assert "did you mean 'generated_frames'" not in str(told.value), "it is what was asked for"
    with pytest.raises(DataError, match="give --store DIR"):
        fusion_data.open_data(MmmlSettings(task="generated"), Sources())
    with pytest.raises(ProtocolError, match="needs text_dir"):
        fusion_data.open_data(
            MmmlSettings(task="generated", input="tokens"), Sources(data=stores / "corpus")
        )


def test_published_widths_need_no_adapter() -> None:
    settings = MmmlSettings(task="sims")
    config = mmml_system.fusion_config(settings, 768, 768)
    assert (config.text_size, config.heads, config.n_layers, config.language) == (768, 12, 5, "ch")
    assert mmml_system.fusion_config(MmmlSettings(fusion="cc"), 768, 512).audio_size == 512


def test_mel_spectrogram_against_a_plain_computation() -> None:
    """Frame by frame with numpy: window, DFT, triangular HTK filters, decibels, 80 dB floor."""
    samples = np.random.default_rng(0).standard_normal(4000).astype(np.float32) * 0.1
    got = mel_spectrogram(torch.from_numpy(samples)).numpy()
    padded = np.pad(samples.astype(np.float64), 480, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(960) / 960)
    frames = [padded[i * 320 : i * 320 + 960] * window for i in range(4000 // 320 + 1)]
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    mel = np.linspace(0, 2595 * math.log10(1 + 8000 / 700), 130)
    hz = 700 * (10 ** (mel / 2595) - 1)
    bins = np.linspace(0, 8000, 481)
    filters = np.zeros((481, 128))
    for m in range(128):
        up = (bins - hz[m]) / (hz[m + 1] - hz[m])
        down = (hz[m + 2] - bins) / (hz[m + 2] - hz[m + 1])
        filters[:, m] = np.clip(np.minimum(up, down), 0, None)
    decibels = 10 * np.log10(np.maximum(power @ filters, 1e-10)).T
    want = np.maximum(decibels, decibels.max() - 80)
    np.testing.assert_allclose(got, want, atol=5e-3)


def test_spectrogram_inputs_are_placed_by_name() -> None:
    samples = np.random.default_rng(0).standard_normal(1600).astype(np.float32)
    first = spec_input(samples, "mosi", 9600, "a")
    assert first.shape == (2, 128, 31)
    assert torch.equal(first, spec_input(samples, "mosi", 9600, "a"))
    assert not torch.equal(first, spec_input(samples, "mosi", 9600, "b"))


def _fake_opensmile() -> ModuleType:
    """The part of the package that is used: random descriptors, deltas two frames longer."""

    class Smile:
        def __init__(self, feature_set: str, feature_level: str) -> None:
            self._extra = 2 if feature_level.endswith("Deltas") else 0

        def process_signal(self, samples: Any, rate: int) -> Any:
            n = len(samples) // 160 + self._extra
            values = np.random.default_rng(len(samples)).standard_normal((n, 65))
            return SimpleNamespace(to_numpy=lambda dtype: values.astype(dtype))

    module = ModuleType("opensmile")
    module.Smile = Smile  # type: ignore[attr-defined]
    module.FeatureSet = SimpleNamespace(ComParE_2016="ComParE_2016")  # type: ignore[attr-defined]
    levels = ("LowLevelDescriptors", "LowLevelDescriptors_Deltas")
    module.FeatureLevel = SimpleNamespace(**{x: x for x in levels})  # type: ignore[attr-defined]
    return module


def test_compare_features_through_opensmile(
    stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(DataError, match="needs the package opensmile"):
        smile_features(np.zeros(1600, np.float32))
    monkeypatch.setitem(sys.modules, "opensmile", _fake_opensmile())
    assert smile_features(np.zeros(16000, np.float32)).shape == (100, 130)
    assert smile_features(np.zeros(96000, np.float32)).shape == (300, 130)
    done = _train(stores, tmp_path, input="smile", tasks="A", loss="MSE", max_epochs=1)
    assert not done.failed, done.seeds[0].error
    assert json.loads((done.seeds[0].folder / "run.json").read_text())["n_epochs"] == 1
