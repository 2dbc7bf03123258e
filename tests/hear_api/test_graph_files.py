"""Encoders from ONNX and TFLite files: what the TOML says is what is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mambabench.errors import EncoderError
from mambabench.hear_api.check import check
from mambabench.hear_api.graph_files import _embed, _laid_out
from mambabench.hear_api.graph_settings import GraphSettings, read_settings
from mambabench.hear_api.graph_sizes import n_weights
from mambabench.hear_api.mel_bank import LogMel
from mambabench.hear_api.windows import Windows
from mambabench.models.registry import load_encoder

TOML = """
sample_rate = 16000
window_samples = 4000
size = 40
layout = ["n", 1, "bands", "frames"]

[logmel]
n_fft = 512
frame_samples = 400
hop_samples = 160
n_mels = 40
"""


def _described(folder: Path, text: str = TOML) -> Path:
    (folder / "net.onnx").write_bytes(b"no graph")
    (folder / "net.toml").write_text(text)
    return folder / "net.onnx"


def test_the_toml_is_read(tmp_path: Path) -> None:
    settings = read_settings(_described(tmp_path), ".onnx")
    assert settings.file == tmp_path / "net.onnx"
    assert settings.windows == Windows(16000, 4000, 40)
    assert settings.layout == ("n", 1, "bands", "frames")
    assert read_settings(tmp_path / "net.toml", ".onnx") == settings


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("size = 40", "", "field 'size' is missing"),
        ("size = 40", "size = 4.5", "field 'size' is 4.5: write a whole number"),
        ("size = 40", "size = 40\nhop_mss = 3", "no field 'hop_mss'; did you mean 'hop_ms'"),
        ("n_mels = 40", "n_mel = 40", r"no field 'logmel\.n_mel'"),
        ("n_fft = 512", "n_fft = 300", "frames are 1 to n_fft samples long"),
        ("n_fft = 512", "n_fft = 512\nscale = 'mels'", "'mels' is not one of htk, slaney, bins"),
        ("size = 40", "size = ", "is no TOML"),
        ("size = 40", "size = 40\npackage = 'no_such'", "'no_such' is not installed here"),
        ("size = 40", "size = 40\nfile = 'other.onnx'", r"no file .*other\.onnx"),
    ],
)
def test_a_wrong_toml_is_named(tmp_path: Path, before: str, after: str, message: str) -> None:
    path = _described(tmp_path, TOML.replace(before, after, 1))
    with pytest.raises(EncoderError, match=r"net\.toml|other\.onnx") as caught:
        read_settings(path, ".onnx")
    assert caught.match(message)


def test_a_file_without_its_toml_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"")
    with pytest.raises(EncoderError, match=r"no .*net\.toml: describe the network there"):
        load_encoder(f"onnx@{tmp_path / 'net.onnx'}", device="cpu")
    with pytest.raises(EncoderError, match=r"give onnx@.*net\.onnx, with a net\.toml beside it"):
        load_encoder(str(tmp_path / "net.onnx"), device="cpu")


def test_features_lie_as_the_graph_wants_them(tmp_path: Path) -> None:
    settings = read_settings(_described(tmp_path), ".onnx")
    audio = torch.randn(3, 4000, generator=torch.Generator().manual_seed(0))
    assert settings.logmel is not None
    mel = settings.logmel(audio, 16000).numpy()
    assert mel.shape == (3, 23, 40)
    assert np.array_equal(_laid_out(audio, settings), mel.transpose(0, 2, 1)[:, None])


def test_a_short_batch_is_filled_up_and_cut_again(tmp_path: Path) -> None:
    class Doubled:
        first_input = "x"

        def __call__(self, inputs):  # type: ignore[no-untyped-def]
            assert inputs["x"].shape == (4, 8)
            return [inputs["x"] * 2, inputs["x"][:, :1]]

    settings = GraphSettings(tmp_path / "x", Windows(16000, 8, 9, batch=4), fixed_batch=True)
    windows = torch.arange(24).float().view(3, 8)
    wanted = torch.cat([windows * 2, windows[:, :1]], 1)
    assert torch.equal(_embed(Doubled(), settings, windows), wanted)


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_the_bank_is_that_of_another_implementation(scale: str) -> None:
    audio_utils = pytest.importorskip("transformers.audio_utils")
    theirs = audio_utils.mel_filter_bank(
        257, 40, 50.0, 7000.0, 16000, norm="slaney" if scale == "slaney" else None, mel_scale=scale
    )
    ours = LogMel(512, 400, 160, 40, f_min=50.0, f_max=7000.0, scale=scale).bank(16000)
    assert np.allclose(ours.numpy().T, theirs, atol=1e-10)


def test_log_mel_of_a_tone_is_what_the_formula_says() -> None:
    """Against a direct sum, frame by frame, with another order of operations."""
    rate, settings = 16000, LogMel(512, 400, 160, 20, log="db", partial=True, divide_by_n_fft=True)
    tone = (torch.arange(1000) * (2 * torch.pi * 1000 / rate)).sin()[None]
    found = settings(tone, rate)[0].numpy()
    assert found.shape == (5, 20)  # 1 + ceil(600 / 160)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    samples = np.zeros(512)
    samples[:400] = tone[0, 160:560].numpy() * hann
    turn = np.exp(-2j * np.pi * np.outer(np.arange(257), np.arange(512)) / 512)
    power = np.abs(turn @ samples) ** 2 / 512
    wanted = 10 * np.log10(np.maximum(settings.bank(rate).numpy() @ power, 1e-10))
    assert np.allclose(found[1], wanted, atol=1e-4)


def _product(onnx: Any, weight: np.ndarray) -> bytes:
    """Return a graph that multiplies windows of samples with `weight`."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["audio", "w"], ["rows"])],
        "net",
        [helper.make_tensor_value_info("audio", kind, ["n", 800])],
        [helper.make_tensor_value_info("rows", kind, ["n", 5])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def test_an_onnx_file_runs_without_any_code(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    weight = np.random.default_rng(0).standard_normal((800, 5)).astype(np.float32)
    path = tmp_path / "net.onnx"
    path.write_bytes(_product(onnx, weight))
    path.with_suffix(".toml").write_text("sample_rate = 16000\nwindow_samples = 800\nsize = 5\n")
    encoder = load_encoder(f"onnx@{path}", device="cpu")
    assert encoder.label == "net"
    audio = torch.randn(2, 800, generator=torch.Generator().manual_seed(0))
    found = encoder.scene(audio, None)[:, 0].numpy()
    assert np.allclose(found, audio.numpy() @ weight, atol=1e-4)
    changed = bytearray(path.read_bytes())
    changed[changed.index(weight.tobytes())] ^= 1  # the last bit of one weight
    path.write_bytes(changed)
    assert load_encoder(f"onnx@{path}", device="cpu").identity != encoder.identity
    path.with_suffix(".toml").write_text(
        "sample_rate = 16000\nwindow_samples = 800\nsize = 5\noutput = 'row'\n"
    )
    with pytest.raises(EncoderError, match="no output 'row'; did you mean 'rows'"):
        load_encoder(f"onnx@{path}", device="cpu")


def test_check_counts_the_weights_of_an_onnx_file(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    path = tmp_path / "net.onnx"
    weight = np.ones((800, 5), np.float32)
    path.write_bytes(_product(onnx, weight))
    path.with_suffix(".toml").write_text(_documented("net.toml"))
    found = {c.name: c for c in check(f"onnx@{path}", device="cpu", long_s=5.0).checks}
    assert found["load_model"].message.startswith("4,000 parameters; 0.0 MB of weights files")
    assert {c.status for c in found.values()} == {"pass"}


def test_weights_are_counted_wherever_a_graph_holds_them(tmp_path: Path) -> None:
    """An initialiser, a constant, and another one in a branch."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT

    def constant(name: str, *shape: int) -> Any:
        tensor = onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name)
        return helper.make_node("Constant", [], [name], value=tensor)

    def branch(*shape: int) -> Any:
        out = helper.make_tensor_value_info("out", kind, None)
        return helper.make_graph([constant("out", *shape)], "branch", [], [out])

    choice = helper.make_node(
        "If", ["which"], ["rows"], then_branch=branch(20, 5), else_branch=branch(300)
    )
    graph = helper.make_graph(
        [constant("c", 7, 3), choice],
        "net",
        [helper.make_tensor_value_info("which", onnx.TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("rows", kind, None)],
        [onnx.numpy_helper.from_array(np.zeros((2, 1000), np.float32), "w")],
    )
    path = tmp_path / "net.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    assert n_weights(path) == 2000 + 21 + 100 + 300


@pytest.mark.parametrize("name", ["no.onnx", "no.tflite", "other.npz"])
def test_weights_that_cannot_be_counted_are_unknown(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x3a\xff no graph")
    assert n_weights(tmp_path / name) is None
    module = tmp_path / "my.py"
    module.write_text(
        "from mambabench.hear_api.windows import windowed\n"
        "load_model, get_scene_embeddings, get_timestamp_embeddings = windowed(\n"
        f"    lambda x: x[:, :4], 16000, 0.1, 4, weights_files=[{str(tmp_path / name)!r}])\n"
    )
    found = {c.name: c for c in check(str(module), device="cpu", long_s=5.0).checks}
    assert found["load_model"].message.startswith("number of parameters unknown; 0.0 MB of weights")


DOCS = Path(__file__).parents[2] / "docs" / "adding-an-encoder.md"


def _documented(name: str) -> str:
    """Return the TOML that the documentation prints for this file."""
    text = DOCS.read_text(encoding="utf-8")
    (block,) = [b for b in text.split("```toml\n")[1:] if b.startswith(f"# {name}")]
    printed = block.partition("```")[0]
    assert len([line for line in printed.splitlines() if line.strip()]) <= 10
    return printed


def test_the_documented_onnx_lines_run(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    path = tmp_path / "net.onnx"
    weight = np.random.default_rng(0).standard_normal((800, 5)).astype(np.float32)
    path.write_bytes(_product(onnx, weight))
    path.with_suffix(".toml").write_text(_documented("net.toml"))
    encoder = load_encoder(f"onnx@{path}", device="cpu")
    audio = torch.randn(2, 800, generator=torch.Generator().manual_seed(0))
    found = encoder.scene(audio, None)[:, 0].numpy()
    assert np.allclose(found, audio.numpy() @ weight, atol=1e-4)


@pytest.mark.peer
def test_the_documented_tflite_lines_run(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("pyopen_wakeword")
    path = tmp_path / "words.toml"
    path.write_text(_documented("words.toml"))
    encoder = load_encoder(f"tflite@{path}", device="cpu")
    audio = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    rows = encoder.scene(audio, None)[:, 0]
    assert rows.shape == (2, 96)
    assert rows.isfinite().all()
    assert not torch.equal(rows[0], rows[1])
