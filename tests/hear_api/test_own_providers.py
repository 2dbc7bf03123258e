"""Our own encoders are HEAR modules."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

import pytest
import torch

from mambabench.errors import EncoderError
from mambabench.hear_api.check import check
from mambabench.models.encoder import LoadedEncoder
from mambabench.models.registry import encoder_entries, find_entry, load_encoder
from mambabench.models.weights.recognise import expected_shapes

PUBLISHED = [e.name for e in encoder_entries().values() if e.published and e.hear and not e.package]
READY = [e.name for e in encoder_entries().values() if not e.published and "small" not in e.name]
READY = [name for name in READY if "base" not in name]


@pytest.mark.parametrize("name", [*PUBLISHED, *READY])
def test_provider_module_exists(name: str) -> None:
    module = import_module(f"mambabench.hear_api.{name}")
    assert inspect.signature(module.load_model).parameters["model_file_path"].default == ""
    assert module.get_scene_embeddings is not None
    assert module.get_timestamp_embeddings is not None
    assert len(Path(str(module.__file__)).read_text().strip().splitlines()) <= 5


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_without_weights_says_where_they_are(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAMBABENCH_WEIGHTS", str(tmp_path))
    monkeypatch.delenv("PT_MAMBA_MODEL_DIR", raising=False)
    module = import_module(f"mambabench.hear_api.{name}")
    with pytest.raises(EncoderError, match=f"encoder {name} needs its published weights"):
        module.load_model("")


@pytest.mark.parametrize("name", READY)
def test_functions_equal_the_encoder(name: str) -> None:
    module = import_module(f"mambabench.hear_api.{name}")
    model = module.load_model()
    encoder = load_encoder(name, device="cpu")
    audio = torch.rand(2, 24000) * 2 - 1
    assert torch.equal(module.get_scene_embeddings(audio, model), encoder.scene(audio, None)[:, 0])
    embeddings, times_ms = module.get_timestamp_embeddings(audio, model)
    expected, expected_ms = encoder.timestamps(audio, None)
    assert torch.equal(embeddings, expected[:, :, 0])
    assert torch.equal(times_ms, expected_ms)
    assert model(audio).shape == (2, model.scene_embedding_size)


def test_model_stays_in_evaluation_mode() -> None:
    module = import_module("mambabench.hear_api.ssam_tiny_random")
    model = module.load_model()
    model.train()
    assert not any(m.training for m in model.modules())


def test_mono_audio_only() -> None:
    module = import_module("mambabench.hear_api.logmel_stats")
    with pytest.raises(EncoderError, match=r"HEAR passes \[n_sounds, n_samples\], mono"):
        module.get_scene_embeddings(torch.zeros(16000), module.load_model())


@pytest.mark.parametrize("name", READY)
def test_check_passes(name: str) -> None:
    report = check(name, device="cpu", long_s=20.0)
    assert report.passed, report


def test_own_module_keeps_its_hidden_layers() -> None:
    encoder = load_encoder("mambabench.hear_api.ssam_tiny_random", device="cpu")
    assert encoder.n_hidden_states == 13
    assert encoder.scene(torch.zeros(1, 8000), (0, 12)).shape[1] == 2


def test_unknown_bare_name_has_near_ones() -> None:
    with pytest.raises(EncoderError, match="did you mean"):
        load_encoder("ssam_tinny")


def load_published(name: str, folder: Path) -> LoadedEncoder:
    """Load a published encoder from a checkpoint of random values in its authors' layout."""
    generator = torch.Generator().manual_seed(3)
    shapes = expected_shapes(find_entry(name))
    state = {k: torch.randn(s, generator=generator) * 0.02 for k, s in shapes.items()}
    torch.save(state, folder / "w.pth")
    return load_encoder(f"{name}@{folder / 'w.pth'}", device="cpu")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [name for name in READY if name != "logmel_stats"])
def test_twenty_minutes_in_bounded_memory(name: str) -> None:
    before = peak_bytes(forget=True)
    report = check(name, device="cpu", long_s=1200.0)
    assert report.passed, report
    # the audio itself is 77 MB; unbounded, the front-end's frames alone would take 2 GB
    assert peak_bytes() - before < 1.5e9


def peak_bytes(forget: bool = False) -> int:
    """Return the peak memory of this process; with `forget`, what it uses now, the peak reset."""
    if forget:
        Path("/proc/self/clear_refs").write_text("5")
    (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x]
    return int(line.split()[1]) * 1024


@pytest.mark.slow
def test_full_size_encoder_passes(tmp_path: Path) -> None:
    encoder = load_published("ssam_base", tmp_path)
    assert encoder.scene_embedding_size == 3840
    report = check(f"ssam_base@{tmp_path / 'w.pth'}", device="cpu", long_s=10.0)
    assert report.passed, report
