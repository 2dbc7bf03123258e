"""`mambabench weights` and `mambabench models` from the command line."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import click.testing
import pytest
import torch

from mambabench.acquire.weights import SOURCES, remote_weights
from mambabench.cli.models import command as models
from mambabench.cli.weights import command as weights
from mambabench.errors import EncoderError
from mambabench.models.registry import encoder_entries, find_entry, load_encoder
from mambabench.models.weights.recognise import expected_shapes

NAME = "aum_tiny_unpublished_audioset"


def invoke(command: Any, *args: object) -> click.testing.Result:
    runner = click.testing.CliRunner()
    return runner.invoke(command, [str(a) for a in args], standalone_mode=False)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights and downloads in folders of the test's own."""
    monkeypatch.setenv("MAMBABENCH_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PT_MAMBA_MODEL_DIR", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the authors' form, with random values."""
    generator = torch.Generator().manual_seed(2)
    shapes = expected_shapes(find_entry(NAME))
    state = {k: torch.randn(s, generator=generator) * 0.02 for k, s in shapes.items()}
    path = tmp_path_factory.mktemp("ckpt") / "best.pth"
    torch.save(state, path)
    return path


def test_get_checks_converts_and_is_found(home: Path, host: Any, checkpoint: Path) -> None:
    host.files["best.pth"] = checkpoint.read_bytes()
    host.cut_after = [300_000]
    result = invoke(weights, "get", NAME, "--url", f"{host.url}/best.pth")
    assert result.return_value == 0, result.output
    assert "MB, licence: none stated in the repository" in result.output
    assert (home / "weights" / f"{NAME}.safetensors").is_file()
    assert host.requests[1][1] is not None  # resumed
    assert load_encoder(NAME, device="cpu").label.startswith(f"{NAME}@")
    assert str(home / "weights") in invoke(weights, "list").output
    shown = invoke(weights, "show", home / "weights" / f"{NAME}.safetensors").output
    assert "converted" in shown
    listed = json.loads(invoke(models, "list", "--json").output)["models"]
    assert next(m["weights_at_hand"] for m in listed if m["name"] == NAME).startswith(str(home))


def test_get_refuses_what_does_not_fit(home: Path, host: Any, checkpoint: Path) -> None:
    host.files["best.pth"] = checkpoint.read_bytes()
    result = invoke(weights, "get", "ssam_tiny", "--url", f"{host.url}/best.pth")
    assert result.return_value == 1
    assert "does not fit encoder ssam_tiny" in result.output
    result = invoke(
        weights, "get", NAME, "--url", f"{host.url}/best.pth", "--checksum", "sha256:" + "0" * 64
    )
    assert result.return_value == 1
    assert "is not the published file" in result.output
    assert not list((home / "weights").glob("*")) if (home / "weights").exists() else True


def test_get_without_an_address_says_what_to_do(home: Path) -> None:
    result = invoke(weights, "get", "ssam_base")
    assert result.return_value == 1
    assert "have no fixed address" in result.output
    assert "weights import FILE --name ssam_base" in result.output
    with pytest.raises(EncoderError, match="needs no weights"):
        remote_weights("logmel_stats")
    assert all(name in encoder_entries() for name in SOURCES)


def test_ssamba_comes_by_its_name_from_its_hub(
    home: Path, host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Size and licence are said first; the hub is one that stands for the public one."""
    monkeypatch.setenv("HF_ENDPOINT", host.url)
    shapes = expected_shapes(find_entry("ssamba_tiny"))
    saved = io.BytesIO()
    torch.save({name: torch.full(shape, 0.02) for name, shape in shapes.items()}, saved)
    place = "attentionisallyouneed369/ssamba/resolve/main/ssamba_tiny_400.pth"
    host.files[place] = saved.getvalue()
    done = invoke(weights, "get", "ssamba_tiny")
    assert done.return_value == 0, done.output
    first, last = done.output.splitlines()
    assert first.startswith(f"{host.url}/{place}: {len(saved.getvalue()) / 1e6:.1f} MB, licence: ")
    assert last == f"ssamba_tiny: {home / 'weights' / 'ssamba_tiny.safetensors'}"
    assert load_encoder("ssamba_tiny", device="cpu").label.startswith("ssamba_tiny@")


def test_offline_forbids_get(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAMBABENCH_OFFLINE", "1")
    result = invoke(weights, "get", "ssamba_tiny")
    assert result.return_value == 1
    assert "MAMBABENCH_OFFLINE forbids it" in result.output


def test_import_convert_and_back(home: Path, checkpoint: Path) -> None:
    result = invoke(weights, "import", checkpoint, "--name", NAME)
    assert "best.pth" not in result.output
    assert result.output.startswith(f"{NAME}: {home / 'weights'}")
    invoke(weights, "convert", checkpoint, home / "a.safetensors", "--name", NAME)
    invoke(weights, "convert", home / "a.safetensors", home / "b.pth", "--export")
    back = torch.load(home / "b.pth", weights_only=True)
    original = torch.load(checkpoint, weights_only=True)
    assert list(back) == list(original)
    assert all(torch.equal(back[k], original[k]) for k in original)


def test_models_list_names_every_encoder() -> None:
    output = invoke(models, "list").output
    assert all(name in output for name in encoder_entries())


def test_models_show() -> None:
    shown = json.loads(invoke(models, "show", "aum_base_scratch_vggsound", "--json").output)
    assert shown["n_parameters"] == 91_939_893
    (score,) = shown["published_scores"]
    assert (score["task"], score["metric"]) == ("VGGSound", "acc")
    assert score["score"] == pytest.approx(0.4297)
    assert sorted(shown) == [
        "aliases", "cost_per_second", "family", "hear_provider", "hop_ms", "licence",
        "n_hidden_states", "n_parameters", "name", "paper", "pip", "published",
        "published_parameters",
        "published_scores", "sample_rate_hz", "scene_embedding_size", "schema", "source",
        "timestamp_embedding_size", "weights", "weights_at_hand",
    ]  # fmt: skip
    assert "none of exactly this checkpoint" in invoke(models, "show", "ssam_tiny").output
    assert invoke(models, "show", "ssam_tiny", "--bibtex").output.startswith("@inproceedings{yad")
    assert "no publication" in str(invoke(models, "show", "logmel_stats", "--bibtex").exception)
    with pytest.raises(EncoderError, match="did you mean 'ssam_tiny"):
        raise invoke(models, "show", "ssam_tinny").exception  # type: ignore[misc]


def test_cost_is_measured_and_plausible() -> None:
    shown = json.loads(
        invoke(models, "show", "ssam_tiny_random", "--measure", "--json", "--device", "cpu").output
    )
    cost = shown["cost_per_second"]
    # 150 tokens a second (six chunks of 250 for 10 s); per token every weight of the blocks once
    # (12 x 4 x 192 x 576 x 2.3, two operations each), and scans of 12 x 9 x 576 x 24
    assert 1.4 < cost["gflops"] < 1.8
    assert cost["seconds"] > 0
    assert 0.5 < cost["memory_mb"] < 500
    assert "GFLOPs" in invoke(models, "show", "ssam_tiny_random", "--measure").output


def _serve_repository(host: Any, model: bytes) -> None:
    facts = {
        "sha": "0123456789abcdef",
        "cardData": {"license": "mit"},
        "siblings": [
            {"rfilename": name}
            for name in ("config.json", "preprocessor_config.json", "model.safetensors", "x.bin")
        ],
    }
    host.files["api/models/me/mine"] = json.dumps(facts).encode()
    base = "me/mine/resolve/0123456789abcdef"
    host.files[f"{base}/config.json"] = b"{}"
    host.files[f"{base}/preprocessor_config.json"] = b"{}"
    host.files[f"{base}/model.safetensors"] = model


def test_a_repository_is_got_by_name(
    home: Path, host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", host.url)
    _serve_repository(host, b"x" * 500_000)
    host.cut_after = [10_000, 300_000]  # the answer on the repository is shorter
    done = invoke(weights, "get", "hf@me/mine")
    assert done.return_value == 0, done.output
    first, last = done.output.splitlines()[0], done.output.splitlines()[-1]
    assert first == "me/mine at 0123456789ab: 0.5 MB, licence: mit"
    folder = home / "weights" / "hf" / "me--mine"
    assert last == f"hf@me/mine: {folder}"
    assert (folder / "model.safetensors").read_bytes() == b"x" * 500_000
    assert not (folder / "x.bin").exists()


def test_repositories_that_are_none_are_answered(
    home: Path, host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", host.url)
    host.files["api/models/me/half"] = b'{"siblings": [{"rfilename": "config.json"}]}'
    for name, said in (
        ("hf@nothing", "names no repository: write hf@OWNER/NAME"),
        ("hf@me/gone", "no public repository named 'me/gone'"),
        ("hf@me/half", "lacks preprocessor_config.json, model.safetensors"),
    ):
        done = invoke(weights, "get", name)
        assert done.return_value == 1
        assert said in done.output
    assert not (home / "weights").exists()


def test_a_repository_at_hand_is_found_by_its_name(home: Path) -> None:
    pytest.importorskip("transformers")
    from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

    folder = home / "weights" / "hf" / "me--mine"
    config = ASTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                       intermediate_size=16, max_length=128)  # fmt: skip
    ASTModel(config).save_pretrained(folder)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="At least one mel filter")
        ASTFeatureExtractor(max_length=128).save_pretrained(folder)
    assert load_encoder("hf@me/mine", device="cpu").scene_embedding_size == 16
    with pytest.raises(EncoderError, match="weights get hf@me/other"):
        load_encoder("hf@me/other", device="cpu")
