"""A provider in another interpreter: the same bytes, its own faults, and back after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import mambabench
from mambabench.cli.check import command
from mambabench.errors import EncoderError
from mambabench.hear_api import other_python
from mambabench.hear_api.other_python import RemoteModel
from mambabench.models.registry import load_encoder
from mambabench.models.weights.identity import fixed_signal
from mambabench.store.open import list_stored_tasks, read_embeddings

WITH_ARRAYS = """
import numpy as np

class Model:
    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 4, 4

def load_model(path=""):
    print("this must not get between the answers")
    return Model()

def get_timestamp_embeddings(audio, model):
    frames = np.asarray(audio)[:, : audio.shape[1] // 800 * 800].reshape(len(audio), -1, 800)
    rows = np.abs(np.fft.rfft(frames)[:, :, 1:5]).astype(np.float32)
    times = np.arange(rows.shape[1], dtype=np.float32) * 50 + 25
    return rows, np.tile(times, (len(audio), 1))

def get_scene_embeddings(audio, model):
    return get_timestamp_embeddings(audio, model)[0].mean(1)
"""
WITH_TENSORS = """
import torch

class Model(torch.nn.Module):
    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 8, 8

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv1d(1, 8, 400, 160)

def load_model(path=""):
    return Model()

def get_timestamp_embeddings(audio, model):
    rows = model.conv(audio[:, None]).relu().transpose(1, 2)
    return rows, (torch.arange(rows.shape[1]) * 10.0 + 12.5).expand(len(audio), -1)

def get_scene_embeddings(audio, model):
    return get_timestamp_embeddings(audio, model)[0].mean(1)
"""


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def numpy_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that finds numpy and nothing else of ours."""
    folder = tmp_path_factory.mktemp("numpy-alone")
    found = folder / "found"
    found.mkdir()
    installed = Path(np.__file__).parent
    (found / "numpy").symlink_to(installed)
    if (libraries := installed.with_name("numpy.libs")).is_dir():
        (found / "numpy.libs").symlink_to(libraries)
    base = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info[1]}"
    python = base if base.is_file() else Path(sys.executable)
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nPYTHONPATH={found} exec {python} -s -S "$@"\n')
    path.chmod(0o755)
    return path


def test_it_needs_numpy_alone(numpy_alone: Path, tmp_path: Path) -> None:
    code = "import numpy, importlib.util as u; print(u.find_spec('torch'), u.find_spec('scipy'))"
    done = subprocess.run([numpy_alone, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "None"]
    file = _file(tmp_path, WITH_ARRAYS)
    encoder = load_encoder(f"voice={file}:python={numpy_alone}", device="cpu")
    assert encoder.label == "voice"
    assert encoder.configuration["option_python"] == (
        f"cpython {'.'.join(map(str, sys.version_info[:3]))}, numpy {np.__version__}"
    )
    signal_ = fixed_signal(16000)
    own: dict[str, object] = {}
    exec(WITH_ARRAYS, own)
    rows, times = own["get_timestamp_embeddings"](signal_.numpy(), None)  # type: ignore[operator]
    found, found_times = encoder.timestamps(signal_, None)
    assert found[:, :, 0].numpy().tobytes() == rows.tobytes()
    assert found_times.numpy().tobytes() == times.tobytes()


def test_it_can_be_checked(numpy_alone: Path, tmp_path: Path) -> None:
    file = _file(tmp_path, WITH_ARRAYS)
    report = mambabench.check(str(file), device="cpu", long_s=5, python=numpy_alone)
    assert report.passed, [c for c in report.checks if c.status == "fail"]
    assert (report.scene_embedding_size, report.hop_ms) == (4, 50)
    nan = _file(tmp_path, WITH_ARRAYS.replace("* 50 + 25", "* np.nan"))
    args = [str(nan), "--python", str(numpy_alone), "--device", "cpu", "--long-s", "5", "--json"]
    result = CliRunner().invoke(command, args, standalone_mode=False)
    failed = {c["name"] for c in json.loads(result.output)["checks"] if c["status"] == "fail"}
    assert result.return_value == 1
    assert "timestamps" in failed
    with pytest.raises(EncoderError, match="runs .py files, and no --encoder is one"):
        mambabench.check("logmel_stats", device="cpu", python=numpy_alone)


def test_the_bytes_are_those_of_this_process(tmp_path: Path) -> None:
    """Through the whole of extract, tensors in both interpreters."""
    file = _file(tmp_path, WITH_TENSORS)
    mambabench.extract([f"here={file}"], task="demo_events-v1-demo", out=tmp_path / "out", jobs=1)
    # the interpreter of a virtual environment finds torch beside itself
    mambabench.extract(
        [f"there={file}"],
        task="demo_events-v1-demo",
        out=tmp_path / "out",
        jobs=1,
        python=sys.executable,
    )
    here, there = sorted(list_stored_tasks(tmp_path / "out"), key=lambda one: one.encoder)
    assert (here.encoder, there.encoder) == ("here", "there")
    assert here.encoder_identity != there.encoder_identity
    for split in here.task.splits:
        one, two = read_embeddings(here, split), read_embeddings(there, split)
        assert one.embeddings.tobytes() == two.embeddings.tobytes()
        assert one.timestamps_ms is not None
        assert two.timestamps_ms is not None
        assert one.timestamps_ms.tobytes() == two.timestamps_ms.tobytes()


def test_one_that_is_killed_is_started_again(numpy_alone: Path, tmp_path: Path) -> None:
    model = RemoteModel(numpy_alone, _file(tmp_path, WITH_ARRAYS), "")
    before = model.call("get_scene_embeddings", fixed_signal(16000))[0]
    first = model.pid
    os.kill(first, signal.SIGKILL)
    after = model.call("get_scene_embeddings", fixed_signal(16000))[0]
    assert model.pid != first
    assert torch.equal(before, after)


def test_one_that_always_dies_is_given_up(numpy_alone: Path, tmp_path: Path) -> None:
    dying = WITH_ARRAYS.replace(
        "    frames =", "    import os; os.kill(os.getpid(), 9)\n    frames ="
    )
    model = RemoteModel(numpy_alone, _file(tmp_path, dying), "")
    with pytest.raises(EncoderError, match=r"ended with signal 9 on each of 2 calls of get_scene"):
        model.call("get_scene_embeddings", fixed_signal(16000))


def test_one_that_changed_meanwhile_is_refused(numpy_alone: Path, tmp_path: Path) -> None:
    file = _file(tmp_path, WITH_ARRAYS)
    model = RemoteModel(numpy_alone, file, "")
    file.write_text(WITH_ARRAYS.replace("16000, 4, 4", "16000, 4, 5"))
    os.kill(model.pid, signal.SIGKILL)
    with pytest.raises(EncoderError, match=r"mine.py is not what it was when --python"):
        model.call("get_scene_embeddings", fixed_signal(16000))


def test_it_ends_with_its_model(numpy_alone: Path, tmp_path: Path) -> None:
    model = RemoteModel(numpy_alone, _file(tmp_path, WITH_ARRAYS), "")
    process = model._process
    assert process.poll() is None
    del model
    assert process.poll() is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import no_such_package",
            r"mine.py' raised ModuleNotFoundError: .*no_such_package.*line 1",
        ),
        ("load_model = None", r"mine.py' raised TypeError"),
        (WITH_ARRAYS.replace("16000, 4, 4", "16000, None, 4"), r"scene_embedding_size = None"),
    ],
)
def test_faults_of_the_module_are_told(
    numpy_alone: Path, tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(EncoderError, match=message):
        load_encoder(f"{_file(tmp_path, text)}:python={numpy_alone}", device="cpu")


def test_no_interpreter_is_told(tmp_path: Path) -> None:
    file = _file(tmp_path, WITH_ARRAYS)
    with pytest.raises(EncoderError, match=r"nowhere cannot be started: No such file"):
        load_encoder(f"{file}:python={tmp_path / 'nowhere'}", device="cpu")
    with pytest.raises(EncoderError, match=r"ended with exit code 1 before it had loaded"):
        load_encoder(f"{file}:python=/bin/false", device="cpu")
    with pytest.raises(EncoderError, match=r"runs .py files, and no --encoder is one"):
        mambabench.extract(["logmel_stats"], python=sys.executable, out=tmp_path / "out")


def test_the_served_program_imports_nothing_of_ours() -> None:
    text = Path(other_python.serve_provider.__file__).read_text()
    assert "mambabench" not in text
