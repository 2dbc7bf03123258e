"""The gate of the documentation: its workflow, step by step as written, to green and to red."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gate.md"


def steps() -> list[str]:
    """Return what the workflow runs, but for the installation of what is under test."""
    text = PAGE.read_text(encoding="utf-8")
    (workflow,) = re.findall(r"^```yaml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    first, *rest = re.findall(r"^      - run: (.*)$", workflow, re.MULTILINE)
    assert first == "pip install mambabench"
    assert workflow.count("run:") == 1 + len(rest) == 3
    return rest


def checkpoint(path: Path, n_columns: int) -> None:
    """Write weights of which only so many columns are not zero: the fewer, the worse."""
    weights = torch.randn(257, 64, generator=torch.Generator().manual_seed(0)) / 16
    weights[:, n_columns:] = 0
    torch.save({"weights": weights}, path)


@pytest.mark.slow
@pytest.mark.parametrize(("n_columns", "code"), [(64, 0), (2, 1)], ids=["green", "red"])
def test_workflow_is_green_or_red(tmp_path: Path, n_columns: int, code: int) -> None:
    text = PAGE.read_text(encoding="utf-8")
    (encoder,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "encoder.py").write_text(encoder, encoding="utf-8")
    checkpoint(tmp_path / "old.pt", 32)
    checkpoint(tmp_path / "new.pt", n_columns)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = [
        subprocess.run(
            ["bash", "-e", "-c", step],  # as GitHub runs a step
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "MAMBABENCH_PLUGINS": "0"},
            capture_output=True,
            text=True,
            timeout=280,
        )
        for step in steps()
    ]
    assert [one.returncode for one in done] == [0, code], done[0].stderr[-2000:]
    said = [line for line in done[1].stderr.splitlines() if line.startswith("gate: ")]
    if code == 0:
        assert said == ["gate: nothing is worse than old"]
    else:
        assert any("Holm" in line for line in said)
        assert all(line.startswith("gate: new on demo_") for line in said)
    (kept,) = re.findall(r"path: (out/\S+)}", text)
    assert (tmp_path / kept).is_file()
