"""Any HEAR module becomes an encoder, and its faults become errors that name them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from mambabench.errors import EncoderError
from mambabench.hear_api.adapters import load_hear_module

_spec = importlib.util.spec_from_file_location(
    "broken_providers", Path(__file__).with_name("broken_providers.py")
)
assert _spec is not None
assert _spec.loader is not None
broken = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(broken)

_SCENE = "    return get_timestamp_embeddings(audio, model)[0].mean(1)\n"


def written(folder: Path, text: str, name: str = "provider.py") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_file_becomes_an_encoder(tmp_path: Path) -> None:
    path = written(tmp_path, broken.SOUND)
    encoder = load_hear_module(path, device="cpu")
    audio = torch.rand(3, 16000) - 0.5
    scene = encoder.scene(audio, None)
    frames, times_ms = encoder.timestamps(audio, (0,))
    assert scene.shape == (3, 1, 6)
    assert frames.shape == (3, 25, 1, 6)
    assert times_ms.shape == (3, 25)
    assert scene.dtype == frames.dtype == times_ms.dtype == torch.float32
    assert torch.allclose(frames.mean(1), scene)
    assert (encoder.name, encoder.label) == (path, path)
    assert encoder.n_hidden_states == 1
    assert len(encoder.identity) == 64


def test_dotted_module_in_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_audio_models").mkdir()
    written(tmp_path / "my_audio_models", broken.SOUND, "tanh_frames.py")
    monkeypatch.chdir(tmp_path)
    encoder = load_hear_module("my_audio_models.tanh_frames", device="cpu")
    assert encoder.name == "my_audio_models.tanh_frames"
    assert encoder.sample_rate_hz == 16000


def test_folder_of_a_dotted_module_shadows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "audio_models_x"
    package.mkdir()
    written(package, "raise ImportError('the wrong module')\n", "soundfile.py")
    text = broken.SOUND.replace("    model = Model()", "    import soundfile\n    model = Model()")
    written(package, text, "reader.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "soundfile", raising=False)
    assert load_hear_module("audio_models_x.reader", device="cpu").sample_rate_hz == 16000


def test_training_mode_is_left(tmp_path: Path) -> None:
    path = written(tmp_path, broken.SOUND.replace("model.eval()", "model"))
    encoder = load_hear_module(path, device="cpu")
    audio = torch.rand(2, 16000)
    assert not encoder.model.training
    assert torch.equal(encoder.scene(audio, None), encoder.scene(audio, None))


def test_identity_follows_weights_code_and_files(tmp_path: Path) -> None:
    path = written(tmp_path, broken.SOUND)
    plain = load_hear_module(path, device="cpu")
    again = load_hear_module(path, device="cpu")
    assert plain.identity == again.identity
    other_code = written(tmp_path, broken.SOUND.replace("torch.tanh", "torch.sin"), "b.py")
    assert load_hear_module(other_code, device="cpu").identity != plain.identity

    weights = {"weight": plain.model.weight.detach() + 1e-6}
    torch.save(weights, tmp_path / "w.pt")
    tuned = load_hear_module(path, tmp_path / "w.pt", device="cpu")
    assert tuned.identity != plain.identity
    assert tuned.label == f"{path}@{tuned.identity[:8]}"


def test_identity_follows_a_helper_beside_the_module(tmp_path: Path) -> None:
    text = broken.SOUND.replace("import torch\n", "import torch\nfrom helper_gain import GAIN\n", 1)
    text = text.replace(".mean(1)\n", ".mean(1) * GAIN\n")
    identities = []
    for gain in (1.0, 1.5):
        folder = tmp_path / str(gain)
        folder.mkdir()
        written(folder, f"GAIN = {gain}\n", "helper_gain.py")
        sys.modules.pop("helper_gain", None)
        identities.append(load_hear_module(written(folder, text), device="cpu").identity)
    assert identities[0] != identities[1]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (_SCENE, "    raise KeyError('band')\n", "raised KeyError while embedding 1 x 8000"),
        (_SCENE, _SCENE.replace(".mean(1)", ".sum()"), r"returned shape \[\], expected \[1, 6\]"),
        ("sample_rate = 16000", "sample_rate = 8000", "sample_rate = 8000; HEAR knows 16000"),
        (
            "import torch\n",
            "import torch, sys\nsys.exit(3)\n",
            r"ended the program \(exit status 3",
        ),
        ("def load_model(", "def load_models(", "lacks load_model; did you mean 'load_models'"),
        ("    return model.eval()", "    return 5", "has sample_rate = None"),
    ],
)
def test_faulty_provider_is_named(tmp_path: Path, old: str, new: str, text: str) -> None:
    path = written(tmp_path, broken.SOUND.replace(old, new))
    with pytest.raises(EncoderError, match=text):
        load_hear_module(path, device="cpu")


def test_nan_everywhere_is_named(tmp_path: Path) -> None:
    text = broken.SOUND.replace(_SCENE, _SCENE.replace(".mean(1)", ".mean(1) * torch.nan"))
    with pytest.raises(EncoderError, match="gives NaN or infinite embeddings on plain tones"):
        load_hear_module(written(tmp_path, text), device="cpu")


def test_another_width_in_a_later_batch(tmp_path: Path) -> None:
    new = "    x = get_timestamp_embeddings(audio, model)[0].mean(1)\n"
    new += "    return x if len(audio) == 1 else x[:, :4]\n"
    encoder = load_hear_module(written(tmp_path, broken.SOUND.replace(_SCENE, new)), device="cpu")
    assert encoder.scene(torch.rand(1, 16000), None).shape == (1, 1, 6)
    with pytest.raises(EncoderError, match=r"returned shape \[2, 4\], expected \[2, 6\]"):
        encoder.scene(torch.rand(2, 16000), None)


def test_only_the_output_can_be_had(tmp_path: Path) -> None:
    encoder = load_hear_module(written(tmp_path, broken.SOUND), device="cpu")
    with pytest.raises(EncoderError, match=r"gives its output only, not layers \(0, 3\)"):
        encoder.scene(torch.rand(1, 16000), (0, 3))


def test_system_exit_while_embedding(tmp_path: Path) -> None:
    text = broken.SOUND.replace(
        _SCENE,
        "    import argparse\n    p = argparse.ArgumentParser()\n"
        "    p.add_argument('x', type=int)\n    p.parse_args(['a'])\n",
    )
    with pytest.raises(EncoderError, match=r"must not parse sys\.argv"):
        load_hear_module(written(tmp_path, text), device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_absent_gpu_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="is not available on this machine"):
        load_hear_module(written(tmp_path, broken.SOUND), device="cuda")
