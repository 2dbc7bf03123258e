"""The example notebook runs from its first cell to its last, without Jupyter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "own_audio.ipynb"


def run(replace: dict[str, str] | None = None) -> dict[str, Any]:
    """Execute the code cells one after another in one namespace and return it."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for i, cell in enumerate(json.loads(NOTEBOOK.read_text())["cells"]):
        if cell["cell_type"] != "code":
            continue
        source = "".join(cell["source"])
        for old, new in (replace or {}).items():
            source = source.replace(old, new)
        exec(compile(source, f"{NOTEBOOK.name}, cell {i}", "exec"), names)
    return names


def test_notebook_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = run()
    names["plt"].close("all")
    assert len(names["guesses"]) == 5
    stored = np.load("embeddings.npz")
    assert stored["scene"].shape == (1, 192)
    assert len(stored["frames"]) == len(stored["times_ms"]) > 10
    assert (tmp_path / "similarity.png").stat().st_size > 10_000
    assert "tone.wav: 3.00 s, 44100 Hz" in capsys.readouterr().out


def test_notebook_takes_your_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stereo = np.random.default_rng(1).uniform(-0.5, 0.5, (16000, 2))
    soundfile.write(tmp_path / "mine.flac", stereo, 8000)
    (tmp_path / "names.txt").write_text("".join(f"sound {i}\n" for i in range(527)))
    names = run({"FILE = None": "FILE = 'mine.flac'", "LABELS = None": "LABELS = 'names.txt'"})
    names["plt"].close("all")
    assert all(g.label == f"sound {g.index}" for g in names["guesses"])
    assert names["samples"].shape == (32000,)


def test_notebook_is_stored_without_outputs() -> None:
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
