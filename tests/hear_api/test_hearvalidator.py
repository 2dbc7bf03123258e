"""The published hear-validator, unchanged, in an environment of its own.

It imports TensorFlow for one isinstance check only; a stub of ten lines stands in for it. The
environment is built once by pip (a few minutes); MAMBABENCH_HEARVALIDATOR_PYTHON names the Python
of one that is there already.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mambabench.models.registry import find_entry
from mambabench.models.weights.recognise import expected_shapes

ROOT = Path(__file__).resolve().parents[2]
STUB = """
class Module:
    pass


class config:
    @staticmethod
    def list_physical_devices(kind=None):
        return []
"""
WITHOUT_WEIGHTS = [
    "logmel_stats",
    "ssam_tiny_random",
    "ssast_tiny_random",
    "ssamba_tiny_random",
    "aum_tiny_random",
]
WITH_WEIGHTS = ["ssam_tiny", "ssast_tiny", "ssamba_tiny", "aum_tiny_unpublished_audioset"]

pytestmark = [pytest.mark.peer, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of an environment with hearvalidator and our dependencies."""
    named = os.environ.get("MAMBABENCH_HEARVALIDATOR_PYTHON")
    if named:
        return named
    folder = tmp_path_factory.mktemp("hearvalidator")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    made = str(folder / "bin" / "python")
    pip = [made, "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, str(ROOT)], check=True)
    subprocess.run([*pip, "--no-deps", "hearvalidator"], check=True)
    return made


def validate(python: str, folder: Path, module: str, *options: str) -> str:
    (folder / "tensorflow").mkdir()
    (folder / "tensorflow" / "__init__.py").write_text(STUB)
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"}
    command = [python, "-m", "hearvalidator.validate", module, "-d", "cpu", *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_encoder_without_weights_passes(python: str, tmp_path: Path, name: str) -> None:
    assert "Looks good!" in validate(python, tmp_path, f"mambabench.hear_api.{name}")


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_encoder_with_a_checkpoint_passes(python: str, tmp_path: Path, name: str) -> None:
    generator = torch.Generator().manual_seed(3)
    shapes = expected_shapes(find_entry(name))
    state = {k: torch.randn(s, generator=generator) * 0.02 for k, s in shapes.items()}
    torch.save(state, tmp_path / "w.pth")
    output = validate(
        python, tmp_path, f"mambabench.hear_api.{name}", "-m", str(tmp_path / "w.pth")
    )
    assert "Looks good!" in output
