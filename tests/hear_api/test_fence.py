"""Foreign code leaves our process as it was, and its faults say where they are."""

from __future__ import annotations

import os
import random
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from mambabench.errors import EncoderError
from mambabench.hear_api.adapters import load_hear_module
from mambabench.hear_api.check import check
from mambabench.hear_api.provider import foreign_code

SOUND = """
import torch


class Model(torch.nn.Module):
    sample_rate = 16000
    scene_embedding_size = 4
    timestamp_embedding_size = 4

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(1600.0).reshape(400, 4).cos())

    # methods


def load_model(path=""):
    # load
    model = Model()
    model.eval()
    return model


def get_timestamp_embeddings(audio, model):
    # call
    padded = torch.nn.functional.pad(audio, (0, 400))
    with torch.no_grad():
        frames = (padded.unfold(1, 400, 400)[:, : audio.shape[1] // 400] @ WEIGHT).tanh()
    return frames, (12.5 + 25.0 * torch.arange(frames.shape[1])).repeat(len(audio), 1)


def get_scene_embeddings(audio, model):
    return get_timestamp_embeddings(audio, model)[0].mean(1)


WEIGHT = torch.arange(1600.0).reshape(400, 4).cos()
# import
"""

VANDAL = """
import os, sys, random, signal, tempfile, warnings
import numpy
os.chdir(tempfile.gettempdir())
os.environ["MAMBABENCH_SPOILT"] = "1"
os.environ["HOME"] = "/nowhere"
random.seed(1); numpy.random.seed(1); torch.manual_seed(1)
warnings.simplefilter("ignore")
torch.set_default_dtype(torch.float64)
torch.set_num_threads(torch.get_num_threads() + 1)
torch.set_grad_enabled(False)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stdout = open(os.devnull, "w")
sys.setrecursionlimit(5000)
torch.set_default_dtype(torch.float32) if WHERE == "call" else None
"""


def written(folder: Path, *changes: tuple[str, str], name: str = "enc.py") -> str:
    text = SOUND
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / name
    path.write_text(text)
    return str(path)


def state() -> tuple[object, ...]:
    return (
        os.getcwd(),
        dict(os.environ),
        random.getstate(),
        np.random.get_state()[1].tobytes(),
        torch.get_rng_state().numpy().tobytes(),
        list(warnings.filters),
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        signal.getsignal(signal.SIGTERM),
        sys.stdout,
        sys.getrecursionlimit(),
        list(sys.path),
        list(sys.argv),
    )


@pytest.mark.filterwarnings("ignore:unclosed file")
@pytest.mark.parametrize("where", ["import", "load", "call"])
def test_everything_is_put_back(tmp_path: Path, where: str) -> None:
    vandal = f"WHERE = {where!r}\n" + VANDAL.strip()
    if where != "import":
        vandal = vandal.replace("\n", "\n    ")
    before = state()
    encoder = load_hear_module(written(tmp_path, (f"# {where}", vandal)), device="cpu")
    assert state() == before
    encoder.scene(torch.zeros(2, 16000), None)
    assert state() == before


def test_a_folder_that_is_gone_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with foreign_code("x", "trying"):
        pass


FAULTS = [
    ("import", "raise OSError('gone')", r"while being imported: gone \(enc\.py, line \d+, in <mod"),
    ("import", "def f(:", r"raised SyntaxError .*\(enc\.py, line \d+: def f\(:\)"),
    (
        "load",
        "{}['blocks.0.weight']",
        r"raised KeyError while loading its model: 'blocks\.0\.weight' "
        r"\(enc\.py, line \d+, in load_model: \{\}\['blocks\.0\.weight'\]\)",
    ),
    (
        "call",
        "assert audio.shape[1] == 4000",
        r"raised AssertionError while embedding .* \(enc\.py, line \d+, in get_timestamp_embeddings"
        r": assert audio\.shape\[1\] == 4000\)",
    ),
    ("call", "torch.zeros(3) @ audio", r"\(enc\.py, line \d+, in get_timestamp_embeddings"),
]


@pytest.mark.parametrize(("where", "line", "message"), FAULTS)
def test_a_fault_says_where_it_is(tmp_path: Path, where: str, line: str, message: str) -> None:
    with pytest.raises(EncoderError, match=message) as caught:
        load_hear_module(written(tmp_path, (f"# {where}", line)), device="cpu")
    assert "enc.py" in caught.value.traceback
    if "SyntaxError" not in message:
        assert any(line in note for note in caught.value.__notes__)


METHODS = [
    "def to(self, *a, **k):\n        raise ValueError('quantised')",
    "def train(self, mode=True):\n        super().train(mode)",
    "def eval(self):\n        self.train(False)",
    "def to(self, *a, **k):\n        return None",
    "def to(self, *a, **k):\n        return 'moved'",
    "def eval(self):\n        super().eval()\n        return True",
    "parameters = {}",
    "def named_modules(self, *a, **k):\n        raise RuntimeError('no')",
    "def state_dict(self, *a, **k):\n        return None",
    "@property\n    def training(self):\n        return False\n    @training.setter\n"
    "    def training(self, value):\n        pass",
]


@pytest.mark.parametrize("method", METHODS)
def test_unusual_methods_of_a_model(tmp_path: Path, method: str) -> None:
    encoder = load_hear_module(written(tmp_path, ("# methods", method)), device="cpu")
    assert encoder.scene(torch.zeros(1, 8000), None).shape == (1, 1, 4)


def test_without_a_state_dict_the_parameters_tell_who_it_is(tmp_path: Path) -> None:
    method = "def state_dict(self, *a, **k):\n        raise RuntimeError('no')"
    file = tmp_path / "scale.txt"
    load = f"import pathlib; Model.weight_scale = float(pathlib.Path({str(file)!r}).read_text())"
    changes = [
        ("# methods", method),
        ("# load", load),
        ("torch.nn.Parameter(", "torch.nn.Parameter(self.weight_scale * "),
    ]
    path = written(tmp_path, *changes)
    found = set()
    for scale in ("1.0", "2.0"):
        file.write_text(scale)
        found.add(load_hear_module(path, device="cpu").identity)
    assert len(found) == 2


def test_an_eval_that_fails_is_named(tmp_path: Path) -> None:
    method = "def eval(self):\n        raise RuntimeError('no')"
    path = written(tmp_path, ("# methods", method), ("    model.eval()\n", ""))
    with pytest.raises(EncoderError, match=r"its model's eval\(\) was called: no \(enc\.py"):
        load_hear_module(path, device="cpu")


TENSORS = [
    "torch.nn.UninitializedParameter()",
    "torch.nn.Parameter(torch.empty(3, device='meta'))",
    "torch.nn.Parameter(torch.eye(3).to_sparse())",
    "torch.nn.Parameter(torch.zeros(0))",
    "torch.nn.Parameter(torch.ones((), dtype=torch.complex64))",
]


@pytest.mark.parametrize("tensor", TENSORS)
def test_tensors_of_every_kind(tmp_path: Path, tensor: str) -> None:
    old = "self.weight = torch.nn.Parameter(torch.arange(1600.0).reshape(400, 4).cos())"
    path = written(tmp_path, (old, f"{old}\n        self.other = {tensor}"))
    assert len(load_hear_module(path, device="cpu").identity) == 64
    assert check(path, long_s=5.0).passed


@pytest.mark.parametrize("base", ["object", "dict"])
def test_models_that_are_no_modules(tmp_path: Path, base: str) -> None:
    path = written(
        tmp_path,
        ("class Model(torch.nn.Module)", f"class Model({base})"),
        ("torch.nn.Parameter(torch.arange(1600.0).reshape(400, 4).cos())", "3"),
        ("    model.eval()\n", ""),
    )
    encoder = load_hear_module(path, device="cpu")
    assert encoder.scene(torch.zeros(1, 8000), None).shape == (1, 1, 4)
    report = check(path, long_s=5.0)
    assert report.passed, report


@pytest.mark.parametrize("seconds", [1, 3])
def test_a_provider_that_needs_longer_clips(tmp_path: Path, seconds: int) -> None:
    line = f"assert audio.shape[1] >= {seconds * 16000}, 'too short'"
    encoder = load_hear_module(written(tmp_path, ("# call", line)), device="cpu")
    assert encoder.scene(torch.zeros(1, 64000), None).shape == (1, 1, 4)


@pytest.mark.parametrize(
    ("old", "new", "failed"),
    [
        ("    model.eval()\n", "", {"eval mode"}),
        ("    scene_embedding_size = 4\n", "", {"attributes"}),
        ("def get_scene_embeddings", "def scene_embeddings", {"import"}),
    ],
)
def test_check_runs_what_still_can_run(
    tmp_path: Path, old: str, new: str, failed: set[str]
) -> None:
    report = check(written(tmp_path, (old, new)), long_s=5.0)
    status = {c.name: c.status for c in report.checks}
    assert {name for name, s in status.items() if s == "fail"} == failed
    assert status["load_model"] == status["timestamps"] == "pass"
    assert (status["silent clip"] == "not run") == ("import" in failed)
    assert not report.passed
