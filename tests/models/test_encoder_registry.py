"""The registry: names, aliases, options, errors; every encoder is tested by being listed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mambabench.errors import EncoderError
from mambabench.models.registry import (
    encoder_entries,
    encoder_names,
    find_entry,
    load_encoder,
    split_name,
)
from mambabench.models.weights.locate import local_checkpoint
from mambabench.models.weights.recognise import expected_shapes

READY = tuple(e.name for e in encoder_entries().values() if not e.published)
QUICK = tuple(name for name in READY if "small" not in name and "base" not in name)
PUBLISHED = tuple(e.name for e in encoder_entries().values() if e.published and not e.package)


def clips(n: int, duration_s: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, int(16000 * duration_s), generator=generator) * 0.1


def test_listing_loads_no_torch() -> None:
    code = (
        "import sys, mambabench.models.registry as r; r.find_entry('ssam_tiny')\n"
        "print([m for m in ('torch', 'scipy', 'pandas', 'numba') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_every_published_encoder_is_there() -> None:
    names = set(encoder_names())
    for size in ("tiny", "small", "base"):
        assert {f"ssam_{size}", f"ssast_{size}", f"ssamba_{size}", f"ssam_{size}_random"} <= names
    assert {"logmel_stats", "aum_base_scratch_audioset", "aum_small_imagenet_audioset"} <= names
    assert "aum_base_audioset_vggsound" in names
    assert len(PUBLISHED) == 26


@pytest.mark.parametrize("name", encoder_names())
def test_entry_is_complete(name: str) -> None:
    entry = find_entry(name)
    assert entry.scene_embedding_size > 0
    assert entry.timestamp_embedding_size > 0
    assert entry.licence
    assert entry.hear == (entry.sample_rate_hz in (16000, 22050, 32000, 44100, 48000))
    if entry.published:
        assert entry.weights
        assert entry.source in entry.weights or "unpublished" in entry.name
        assert "{" in entry.bibtex


def test_aliases_mean_the_same() -> None:
    assert find_entry("ssam_tiny_200_16x4").name == "ssam_tiny"
    assert find_entry("ssast_base_200_16x4_4x256_fp16_r1").name == "ssast_base"
    assert find_entry("ssamba_tiny_250").name == "ssamba_tiny"


def test_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(EncoderError, match=r"no encoder named 'ssam_tinny'; did you mean 'ssam_t"):
        load_encoder("ssam_tinny")


@pytest.mark.parametrize("name", [n for n in PUBLISHED if n.endswith(("tiny", "audioset"))])
def test_published_without_weights_says_where_from(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MAMBABENCH_WEIGHTS", str(tmp_path))
    monkeypatch.delenv("PT_MAMBA_MODEL_DIR", raising=False)
    with pytest.raises(EncoderError, match="needs its published weights") as caught:
        load_encoder(name)
    assert str(tmp_path) in str(caught.value)
    assert f"{name}@PATH" in str(caught.value)
    assert "never runs on random weights" in str(caught.value)


def test_model_dir_tree_gives_the_highest_epoch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "ssam_tiny_200_16x4_4x256_fp16_r1" / "checkpoints"
    folder.mkdir(parents=True)
    for epoch in (9, 99, 20):
        (folder / f"checkpoint-{epoch}.pth").touch()
    monkeypatch.setenv("PT_MAMBA_MODEL_DIR", str(tmp_path))
    assert local_checkpoint(find_entry("ssam_tiny")) == folder / "checkpoint-99.pth"
    assert local_checkpoint(find_entry("ssam_small")) is None


def test_folder_without_checkpoints_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="folder without a file checkpoints/checkpoint-EPOCH"):
        load_encoder("ssam_tiny", checkpoint=tmp_path)


def test_names_carry_options_and_checkpoints() -> None:
    assert split_name("ssam_tiny") == ("ssam_tiny", {}, None)
    assert split_name("ssam_tiny@/a/b.pth") == ("ssam_tiny", {}, Path("/a/b.pth"))
    name, options, path = split_name("x:hop_ms=40,pooling=columns,adapt=true,f=.5@c.pth")
    assert (name, path) == ("x", Path("c.pth"))
    assert options == {"hop_ms": 40, "pooling": "columns", "adapt": True, "f": 0.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ssam_tiny@", "names no checkpoint after the '@'"),
        ("ssam_tiny_random:time", "is no option: write name:option=value"),
        ("ssam_tiny_random:tokn_order=time", "has no option 'tokn_order'.*did you mean 'token_or"),
        ("ssam_tiny_random:token_order=tim", "token_order='tim' is not one of.*did you mean 'tim"),
        ("aum_tiny_random:pooling=clas", "pooling='clas' is not one of.*did you mean 'class'"),
        (
            "aum_tiny_random:hop_ms=50",
            "hop_ms=50 does not divide .* 160 ms; use one of 160, 80, 40",
        ),
        ("aum_tiny_random:stride=12", "stride=12 is not one of 16, 10"),
        ("ssam_tiny_random@weights.pth", "has random weights and takes no checkpoint"),
        ("logmel_stats@weights.pth", "has no weights and takes no checkpoint"),
        ("ssam_tiny@nowhere.pth", "there is no checkpoint nowhere.pth"),
    ],
)
def test_bad_requests_are_named(text: str, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        load_encoder(text)


def test_two_checkpoints_are_refused() -> None:
    with pytest.raises(EncoderError, match=r"two checkpoints: a\.pth in the name and b\.pth"):
        load_encoder("ssam_tiny@a.pth", checkpoint="b.pth")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "cud"}, "device 'cud' is not one of auto, cpu, cuda; did you mean 'cuda'"),
        ({"dtype": "fp8"}, "precision 'fp8' is not one of fp32, bf16, int8, fp64"),
        ({"dtype": torch.complex64}, "precision 'torch.complex64' is not one of"),
    ],
)
def test_bad_devices_and_precisions_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        load_encoder("ssam_tiny_random", **arguments)  # type: ignore[arg-type]


def test_cuda_without_a_gpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EncoderError, match="device 'cuda' is not available on this machine"):
        load_encoder("ssam_tiny_random", device="cuda")


@pytest.mark.parametrize("name", QUICK)
def test_contract(name: str) -> None:
    encoder = load_encoder(name, device="cpu")
    entry = find_entry(name)
    audio = clips(3, 0.7)
    last = encoder.n_hidden_states - 1
    scene = encoder.scene(audio, None)
    assert (encoder.name, encoder.label, len(encoder.identity)) == (name, name, 64)
    assert scene.shape == (3, 1, entry.scene_embedding_size)
    assert scene.dtype == torch.float32
    assert not scene.requires_grad
    assert not encoder.model.training
    assert encoder.n_hidden_states == entry.n_hidden_states
    rows, times = encoder.timestamps(audio, None)
    assert rows.shape == (3, times.shape[1], 1, entry.timestamp_embedding_size)
    assert (rows.dtype, times.dtype) == (torch.float32, torch.float32)
    if last:
        layers = encoder.scene(audio, (0, last))
        assert layers.shape == (3, 2, entry.scene_embedding_size)
        torch.testing.assert_close(layers[:, 1:], scene, rtol=0, atol=0)
        assert not torch.equal(layers[:, 0], layers[:, 1])
        rows_2, _ = encoder.timestamps(audio, (last, 0))
        torch.testing.assert_close(rows_2[:, :, :1], rows, rtol=0, atol=0)
    hops = times.diff(dim=1)
    assert bool((hops == float(encoder.configuration["hop_ms"] or 0)).all())
    assert 0 < float(times.min()) < float(times.max()) <= 700


@pytest.mark.parametrize("name", QUICK)
def test_batch_mates_and_order_do_not_matter(name: str) -> None:
    encoder = load_encoder(name, device="cpu")
    audio = clips(3, 0.5)
    for embed in (encoder.scene, lambda a, layers: encoder.timestamps(a, layers)[0]):
        together = embed(audio, None)
        alone = torch.cat([embed(clip[None], None) for clip in audio])
        backwards = embed(audio.flip(0), None).flip(0)
        for other in (alone, backwards):
            assert float((other - together).abs().max() / together.abs().max()) <= 1e-5


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("n_samples", [1, 200, 800, 16000])
def test_short_and_silent_clips_are_finite(name: str, n_samples: int) -> None:
    encoder = load_encoder(name, device="cpu")
    audio = torch.cat((clips(1, 1.0)[:, :n_samples], torch.zeros(1, n_samples)))
    scene = encoder.scene(audio, None)
    rows, times = encoder.timestamps(audio, None)
    assert bool(scene.isfinite().all())
    assert bool(rows.isfinite().all())
    assert rows.shape[1] == times.shape[1] >= 1


def test_identity_depends_on_weights_options_and_precision() -> None:
    names = ("ssam_tiny_random", "ssam_tiny_random:seed=1", "ssam_tiny_random:token_order=time")
    found = {load_encoder(name).identity for name in names}
    found.add(load_encoder("ssam_tiny_random", dtype=torch.bfloat16).identity)
    assert len(found) == 4
    assert load_encoder("ssam_tiny_random").identity in found
    assert load_encoder("ssam_tiny_random", seed=1).identity in found
    label = load_encoder("ssam_tiny_random", token_order="time", seed=1).label
    assert label == "ssam_tiny_random:seed=1,token_order=time"


def test_random_weights_leave_the_global_stream_alone() -> None:
    state = torch.random.get_rng_state()
    load_encoder("ssam_tiny_random")
    assert torch.equal(state, torch.random.get_rng_state())


def test_hear_modules_take_no_options_or_precision() -> None:
    with pytest.raises(EncoderError, match="is a HEAR module: it has its own precision"):
        load_encoder("some.module", dtype="bf16")
    with pytest.raises(EncoderError, match="is a HEAR module: it takes no options, not 'seed'"):
        load_encoder("mambabench.hear_api.logmel_stats", seed=1)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_count_and_keys_equal_the_manifest(name: str, goldens_dir: Path) -> None:
    import json

    entry = find_entry(name)
    folder = goldens_dir / "encoders" / "manifests"
    (file,) = (f for f in folder.glob("*.json") if f.stem in (entry.name, *entry.aliases))
    manifest = json.loads(file.read_text())
    prefix = "module." if entry.family == "ssamba" else ""
    listed = [(k.removeprefix(prefix), tuple(s)) for k, s, *_ in manifest["state_dict"]]
    assert list(expected_shapes(entry).items()) == listed
    assert entry.n_parameters == manifest["total_params"]
