"""An encoder that fails does not stop the others."""

from __future__ import annotations

from pathlib import Path

import pytest

import mambabench
from mambabench.errors import EncoderError

CRASH = """
import torch


class Model(torch.nn.Module):
    sample_rate = 16000
    scene_embedding_size = 4
    timestamp_embedding_size = 4


def load_model(path=""):
    return Model()


def get_scene_embeddings(audio, model):
    raise RuntimeError("boom")


def get_timestamp_embeddings(audio, model):
    raise RuntimeError("boom")
"""


def test_the_others_go_on(tmp_path: Path) -> None:
    crash = tmp_path / "crash.py"
    crash.write_text(CRASH)
    unknown = tmp_path / "broken.py"
    unknown.write_text("raise ValueError('no such thing')\n")
    out = tmp_path / "out"
    done = mambabench.run(
        [str(crash), str(unknown), "logmel_stats"],
        task="demo_vowel",
        out=out,
        protocol="linear",
        jobs=1,
    )
    assert done.failed
    assert done.extracted.failed
    said = [str(error) for error in done.extracted.broken]
    assert len(said) == 2
    assert "boom" in said[0]
    assert "crash.py" in said[0]
    assert "broken" in said[1]
    assert done.reported is not None
    assert [row.encoder for row in done.reported.summary.rows] == ["logmel_stats"]
    with pytest.raises(EncoderError, match="boom"):
        mambabench.extract(str(crash), task="demo_vowel", out=out, jobs=1)
