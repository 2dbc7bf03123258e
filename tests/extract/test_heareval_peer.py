"""The published hear-eval-kit, really run: its embeddings equal ours, and each goes on from the
other's output.

It runs in an environment of its own, built once by pip; MAMBABENCH_HEAREVAL_PYTHON names the Python
of one that is there already. A stub stands in for TensorFlow, which serves one isinstance check.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mambabench.extract.verb import extract
from mambabench.models.registry import find_entry
from mambabench.models.weights.recognise import expected_shapes
from mambabench.store.open import list_stored_tasks, read_embeddings

ROOT = Path(__file__).resolve().parents[2]
MODULE = "mambabench.hear_api.ssam_tiny"
STUB = """
class Module:
    pass


class config:
    @staticmethod
    def list_physical_devices(kind=None):
        return []
"""
NEEDS = [
    *("pytorch-lightning==1.9.5", "setuptools<81", "click", "dcase_util", "sed_eval"),
    *("intervaltree", "more-itertools", "pandas", "pynvml", "python-slugify", "torchinfo", "tqdm"),
    "scikit-learn",
]

pytestmark = [pytest.mark.peer, pytest.mark.timeout(1800)]
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of an environment with hear-eval-kit and our dependencies."""
    named = os.environ.get("MAMBABENCH_HEAREVAL_PYTHON")
    if named:
        return named
    folder = tmp_path_factory.mktemp("heareval")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    made = str(folder / "bin" / "python")
    pip = [made, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), str(ROOT)], check=True)
    subprocess.run([*pip, *NEEDS], check=True)
    subprocess.run([*pip, "--no-deps", "heareval==2021.1.3"], check=True)
    return made


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A checkpoint with the published shapes and random values."""
    generator = torch.Generator().manual_seed(3)
    shapes = expected_shapes(find_entry("ssam_tiny"))
    state = {k: torch.randn(s, generator=generator) * 0.02 for k, s in shapes.items()}
    torch.save(state, tmp_path / "w.pth")
    return tmp_path / "w.pth"


def run_kit(python: str, folder: Path, *arguments: str | Path) -> str:
    (folder / "tensorflow").mkdir(exist_ok=True)
    (folder / "tensorflow" / "__init__.py").write_text(STUB)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{folder}:{ROOT}",
        "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1",
    }
    done = subprocess.run(
        [python, "-m", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["scene", "event"])
def test_its_embeddings_are_ours(
    python: str, tmp_path: Path, make_task: Make, weights: Path, kind: str
) -> None:
    directory = make_task(kind=kind, lengths=(32000,) * 5)
    theirs = tmp_path / "theirs"
    run_kit(
        python, tmp_path, "heareval.embeddings.runner", MODULE, "--model", weights,
        "--tasks-dir", directory.parent, "--embeddings-dir", theirs / "embeddings",
    )  # fmt: skip
    ours = tmp_path / "ours"
    extract([f"{MODULE}@{weights}"], [directory], out=ours, layout="hear-eval-kit", jobs=1)
    (found,) = list_stored_tasks(theirs, "hear-eval-kit")
    (made,) = list_stored_tasks(ours, "hear-eval-kit")
    for split in ("train", "valid", "test"):
        kit, own = read_embeddings(found, split), read_embeddings(made, split)
        assert kit.clip_names == own.clip_names
        np.testing.assert_array_equal(kit.offsets, own.offsets)
        error = np.abs(kit.embeddings - own.embeddings).max() / np.abs(kit.embeddings).max()
        assert error <= 1e-5
        if kind == "event":
            assert kit.timestamps_ms is not None
            assert own.timestamps_ms is not None
            np.testing.assert_allclose(kit.timestamps_ms, own.timestamps_ms, atol=1e-3)
        labels = []
        for one in (found, made):
            with (one.directory / f"{split}.target-labels.pkl").open("rb") as file:
                labels.append([sorted(row, key=str) for row in pickle.load(file)])
        assert labels[0] == labels[1]
    names = [
        {str(p.relative_to(one.directory)) for p in one.directory.rglob("*") if p.is_file()}
        for one in (found, made)
    ]
    audio = {".mambabench-audio.json", ".mambabench-audio-seen.json"}
    assert names[1] - names[0] == {".mambabench.json", ".mambabench-provenance.json"} | audio
    assert names[0] <= names[1]


def test_it_goes_on_from_our_output(
    python: str, tmp_path: Path, make_task: Make, weights: Path
) -> None:
    directory = make_task(lengths=(16000,) * 24)
    out = tmp_path / "ours"
    extract([f"ssam_tiny@{weights}"], [directory], out=out, layout="hear-eval-kit", jobs=1)
    (made,) = list_stored_tasks(out, "hear-eval-kit")
    run_kit(
        python, tmp_path, "heareval.predictions.runner", made.directory,
        "--grid", "faster", "--grid-points", "1",
    )  # fmt: skip
    scores = json.loads((made.directory / "test.predicted-scores.json").read_text())
    assert 0.0 <= scores["test"]["test_top1_acc"] <= 1.0
