"""Checkpoints: every published form, planted faults, conversion there and back."""

from __future__ import annotations

import argparse
import json
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mambabench.errors import EncoderError
from mambabench.files import sha256_file
from mambabench.models.registry import encoder_entries, find_entry, load_encoder
from mambabench.models.weights.checkpoint import read_checkpoint
from mambabench.models.weights.convert import (
    convert_checkpoint,
    describe_weights,
    export_checkpoint,
    import_checkpoint,
    list_weights,
)
from mambabench.models.weights.recognise import expected_shapes, recognise

PUBLISHED = tuple(e.name for e in encoder_entries().values() if e.published and not e.package)
LARGE = tuple(n for n in PUBLISHED if find_entry(n).n_parameters > 10_000_000)
State = dict[str, torch.Tensor]


@pytest.fixture
def manifests(goldens_dir: Path) -> Path:
    return goldens_dir / "encoders" / "manifests"


def manifest_of(name: str, folder: Path) -> dict[str, Any]:
    entry = find_entry(name)
    for alias in (entry.name, *entry.aliases):
        if (folder / f"{alias}.json").exists():
            content: dict[str, Any] = json.loads((folder / f"{alias}.json").read_text())
            return content
    raise AssertionError(f"no manifest of {name}")


def random_state(manifest: dict[str, Any], cheap: bool = False) -> State:
    """Fill a manifest's tensors; `cheap` ones share one element and make tiny files."""
    generator = torch.Generator().manual_seed(7)
    pool = torch.randn(4_000_000, generator=generator)
    state: State = {}
    for i, (key, shape, dtype) in enumerate(manifest["state_dict"]):
        kind = getattr(torch, dtype)
        n = torch.Size(shape).numel()
        if not kind.is_floating_point:
            state[key] = torch.tensor(1024 + i, dtype=kind)
        elif cheap:
            state[key] = torch.tensor(0.5).expand(shape)
        else:
            start = (i * 9973) % (pool.numel() - n)
            state[key] = pool[start : start + n].reshape(shape).clone()
    return state


@pytest.fixture
def config_dict() -> Iterator[type]:
    """A module of the name of ml_collections' while files are written, gone when they are read."""
    parts = (
        "ml_collections",
        "ml_collections.config_dict",
        "ml_collections.config_dict.config_dict",
    )
    for part in parts:
        sys.modules[part] = types.ModuleType(part)
    stand_in = type("ConfigDict", (), {"__module__": parts[-1]})
    sys.modules[parts[-1]].ConfigDict = stand_in  # type: ignore[attr-defined]
    yield stand_in
    for part in parts:
        sys.modules.pop(part, None)


def save_published(manifest: dict[str, Any], state: State, path: Path, config: type) -> None:
    """Write a checkpoint as its authors' code does."""
    if manifest.get("state_dict_key") != "model":
        torch.save(state, path)
        return
    settings = config()
    settings.__dict__.update(_fields={"model": "ssam", "depth": 12, "kind": int}, _locked=True)
    content = {
        "model": state,
        "optimizer": {"state": {}, "param_groups": [{"lr": 6e-4, "betas": (0.9, 0.95)}]},
        "epoch": 99,
        "scaler": {"scale": 65536.0, "growth_factor": 2.0},
        "args": argparse.Namespace(config=settings, batch_size=256, precision="fp16"),
    }
    torch.save(content, path)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n in LARGE else ()) for n in PUBLISHED],
)
def test_round_trip_is_equal_key_by_key_and_byte_by_byte(
    name: str, manifests: Path, tmp_path: Path, config_dict: type
) -> None:
    manifest = manifest_of(name, manifests)
    state = random_state(manifest)
    original, again = tmp_path / "original.pth", tmp_path / "again.pth"
    save_published(manifest, state, original, config_dict)
    for module in [m for m in sys.modules if m.startswith("ml_collections")]:
        del sys.modules[module]
    imported = import_checkpoint(original, name, tmp_path)
    assert imported.path == tmp_path / f"{name}.safetensors"
    assert imported.encoders == (name,)
    assert imported.n_parameters == manifest["total_params"]
    with safe_open(str(imported.path), framework="pt") as opened:
        metadata = opened.metadata()
    assert metadata["source_sha256"] == sha256_file(original)
    assert json.loads(metadata["configuration"]) == dict(find_entry(name).settings)
    export_checkpoint(imported.path, again)
    content = torch.load(again, weights_only=True)
    exported = content["model"] if manifest.get("state_dict_key") else content
    assert list(exported) == list(state)
    for key, value in state.items():
        assert exported[key].dtype == value.dtype
        assert exported[key].shape == value.shape
        assert torch.equal(
            exported[key].flatten().view(torch.uint8), value.flatten().view(torch.uint8)
        )
    if name in LARGE:
        for file in tmp_path.iterdir():  # a gigabyte that pytest would keep
            file.unlink()
        return
    second = convert_checkpoint(again, tmp_path / "second.safetensors", name)
    assert second.content_sha256 == imported.content_sha256
    assert describe_weights(imported.path) == imported


@pytest.mark.parametrize("name", PUBLISHED)
def test_planted_faults_are_all_listed_in_one_error(
    name: str, manifests: Path, tmp_path: Path, config_dict: type
) -> None:
    manifest = manifest_of(name, manifests)
    state = random_state(manifest, cheap=True)
    keys = [k for k in state if state[k].ndim == 2]
    missing, misshapen = keys[3], keys[5]
    del state[missing]
    state[misshapen] = torch.tensor(0.5).expand(3, 5)
    prefix = "module." if manifest.get("prefix") else ""
    state[f"{prefix}surprise.weight"] = torch.zeros(2)
    path = tmp_path / "faulty.pth"
    save_published(manifest, state, path, config_dict)
    with pytest.raises(EncoderError) as caught:
        load_encoder(name, checkpoint=path, device="cpu")
    text = str(caught.value)
    assert text.startswith(f"{path} does not fit encoder {name}:")
    assert f"  missing: {missing.removeprefix(prefix)}" in text
    assert "  extra: surprise.weight" in text
    assert f"  misshapen: {misshapen.removeprefix(prefix)} is [3, 5], expected [" in text
    with pytest.raises(EncoderError, match="does not fit encoder"):
        convert_checkpoint(path, tmp_path / "out.safetensors", name)
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("name", PUBLISHED)
def test_layouts_are_recognised(name: str) -> None:
    assert name in recognise(expected_shapes(find_entry(name)))


def test_the_error_names_the_encoder_that_the_file_seems_to_be(
    manifests: Path, tmp_path: Path
) -> None:
    path = tmp_path / "x.pth"
    torch.save(random_state(manifest_of("ssamba_tiny", manifests), cheap=True), path)
    with pytest.raises(EncoderError, match=r"the file seems to be of ssamba_tiny$"):
        load_encoder("ssamba_small", checkpoint=path, device="cpu")
    with pytest.raises(EncoderError, match=r"the file seems to be of ssamba_tiny$"):
        load_encoder("ssam_tiny", checkpoint=path, device="cpu")


def test_equal_layouts_must_be_named(manifests: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(random_state(manifest_of("aum_base_scratch_as20k", manifests), cheap=True), path)
    with pytest.raises(EncoderError, match="fits aum_base_scratch_audioset, aum_base_scratch_as20"):
        convert_checkpoint(path, tmp_path / "out.safetensors")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AuM checkpoint with the weights of aum_tiny_random, as a bare file."""
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    encoder = load_encoder("aum_tiny_random", device="cpu")
    torch.save({f"module.{k}": v for k, v in encoder.model.backbone.state_dict().items()}, path)
    return path


def test_loading_gives_the_same_embeddings_from_every_form(tiny: Path, tmp_path: Path) -> None:
    converted = convert_checkpoint(tiny, tmp_path / "a.safetensors").path
    exported = export_checkpoint(converted, tmp_path / "a.pth").path
    audio = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0)) * 0.1
    name = "aum_tiny_unpublished_audioset"
    loaded = [load_encoder(name, checkpoint=p, device="cpu") for p in (tiny, converted, exported)]
    random = load_encoder("aum_tiny_random", device="cpu")
    for encoder in loaded:
        assert torch.equal(encoder.scene(audio, None), random.scene(audio, None))
        assert encoder.identity == loaded[0].identity
        assert encoder.label == f"{name}@{encoder.identity[:8]}"
        assert encoder.name == name
    at = load_encoder(f"{name}@{tiny}", device="cpu")
    assert at.identity == loaded[0].identity


def test_imported_weights_are_found(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAMBABENCH_WEIGHTS", str(tmp_path))
    monkeypatch.delenv("PT_MAMBA_MODEL_DIR", raising=False)
    import_checkpoint(tiny)
    at_hand = {entry.name: path for entry, path in list_weights()}
    assert len(at_hand) == 26
    name = "aum_tiny_unpublished_audioset"
    assert at_hand[name] == tmp_path / f"{name}.safetensors"
    assert at_hand["ssam_tiny"] is None
    assert load_encoder(name, device="cpu").name == name
    seen = describe_weights(tmp_path / f"{name}.safetensors")
    assert (seen.converted, seen.prefix, seen.wrapper) == (True, "module.", "")


def test_ssam_run_directory_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config_dict: type
) -> None:
    folder = tmp_path / "ssam_tiny_200_16x4_4x256_fp16_r1" / "checkpoints"
    folder.mkdir(parents=True)
    random = load_encoder("ssam_tiny_random", device="cpu")
    (folder / "checkpoint-9.pth").write_bytes(b"older and not read")
    state = random.model.encoder.state_dict()
    save_published({"state_dict_key": "model"}, state, folder / "checkpoint-99.pth", config_dict)
    for module in [m for m in sys.modules if m.startswith("ml_collections")]:
        del sys.modules[module]
    monkeypatch.setenv("PT_MAMBA_MODEL_DIR", str(tmp_path))
    audio = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0)) * 0.1
    for name in ("ssam_tiny", "ssam_tiny_200_16x4", f"ssam_tiny@{folder.parent}"):
        encoder = load_encoder(name, device="cpu")
        assert torch.equal(encoder.scene(audio, None), random.scene(audio, None))
        assert encoder.label.startswith(name.partition("@")[0] + "@")


class _Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"x": torch.ones(1)}, "args": _Malicious()}, tmp_path / "bad.pth")
    with pytest.raises(EncoderError, match=r"holds an object of posix\.mkdir; only tensors") as e:
        read_checkpoint(tmp_path / "bad.pth")
    assert "weights_only" not in str(e.value)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot read the checkpoint .*x.pth"),
        (
            b"not a checkpoint at all",
            "cannot read the checkpoint .*x.pth: it is no file of torch.save",
        ),
        ([1, 2], "holds no state dict, neither bare nor under 'model'"),
        ({}, "holds no state dict"),
        ({"model": {"a": 3}}, "holds values that are no tensors: a"),
    ],
)
def test_broken_files_are_named(content: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(EncoderError, match=message):
        read_checkpoint(path)


def test_truncated_checkpoint_is_named(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.pth"
    path.write_bytes(tiny.read_bytes()[:-5000])
    with pytest.raises(EncoderError, match=r"cannot read the checkpoint .*cut\.pth"):
        read_checkpoint(path)


def test_damaged_or_foreign_conversions_are_refused(tiny: Path, tmp_path: Path) -> None:
    good = convert_checkpoint(tiny, tmp_path / "good.safetensors").path
    with safe_open(str(good), framework="pt") as opened:
        metadata = opened.metadata()
    tensors = load_file(good)
    tensors["cls_token"][0, 0, 0] += 1
    save_file(tensors, tmp_path / "changed.safetensors", metadata)
    with pytest.raises(EncoderError, match=r"changed\.safetensors is damaged: its content hash"):
        read_checkpoint(tmp_path / "changed.safetensors")
    with pytest.raises(EncoderError, match="holds the weights of aum_tiny_unpublished_audioset, n"):
        load_encoder("aum_base_scratch_audioset", checkpoint=good, device="cpu")
    save_file(load_file(good), tmp_path / "new.safetensors", {**metadata, "mambabench": "9"})
    with pytest.raises(EncoderError, match="has format 9, this version reads 1"):
        read_checkpoint(tmp_path / "new.safetensors")
    (tmp_path / "short.safetensors").write_bytes(good.read_bytes()[:1000])
    with pytest.raises(EncoderError, match=r"cannot read .*short\.safetensors"):
        read_checkpoint(tmp_path / "short.safetensors")
    with pytest.raises(EncoderError, match="is no converted file: there is nothing to export"):
        export_checkpoint(tiny, tmp_path / "x.pth")


def test_aum_of_another_length_and_of_vim_needs_adapt(tiny: Path, tmp_path: Path) -> None:
    state = torch.load(tiny, weights_only=True)
    state["module.pos_embed.pos_embed"] = torch.randn(1, 1 + 8 * 8, 192)
    state["module.head.weight"], state["module.head.bias"] = torch.ones(3, 192), torch.zeros(3)
    path = tmp_path / "short.pth"
    torch.save(state, path)
    name = "aum_tiny_unpublished_audioset"
    with pytest.raises(EncoderError, match=r"misshapen: pos_embed.pos_embed is \[1, 65, 192\]"):
        load_encoder(name, checkpoint=path, device="cpu")
    adapted = load_encoder(name, checkpoint=path, device="cpu", adapt=True)
    assert adapted.model.backbone.pos_embed.pos_embed.shape == (1, 513, 192)
    assert adapted.model.backbone.head.weight.shape == (527, 192)
    named = load_encoder(f"{name}:adapt=true,num_classes=3@{path}", device="cpu")
    assert torch.equal(named.model.backbone.head.weight, torch.ones(3, 192))
    state["module.pos_embed.pos_embed"] = torch.randn(1, 1 + 77, 192)
    torch.save(state, path)
    with pytest.raises(EncoderError, match="has 77 patch positions: no length from 64 to 524288"):
        load_encoder(name, checkpoint=path, device="cpu", adapt=True)
