"""Stored frames are announced before they are made, and refused where no disk holds them."""

from __future__ import annotations

import shutil
from collections import namedtuple

import pytest
from trees import TREES

import mambabench
from mambabench.benchmarks.superb.prepare import prepare
from mambabench.errors import StoreError
from mambabench.extract.sizes import FrameSize

Usage = namedtuple("Usage", "total used free")


def test_a_dozen_layers_of_a_hundred_hours():
    size = FrameSize("hubert", "superb_pr", 100.6, 13, 768, 50.0)
    assert size.stored_bytes == pytest.approx(361.6e9, rel=1e-3)
    assert str(size) == (
        "hubert  superb_pr: 101 h of audio x 50 frames/s x 13 layers x 768: 362 GB of frames, "
        "1.08e+03 GB while it is written"
    )


def test_frames_are_announced_and_refused_with_both_remedies(tmp_path, monkeypatch):
    prepare("SD", TREES["superb_sd"](tmp_path / "corpus", 8), tmp_path / "tasks")
    said = []
    arguments = (["logmel_stats"], [tmp_path / "tasks"])
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, 1_000))
    with pytest.raises(
        StoreError,
        match=r"are free .* --layers last .* --frames recompute .* --out on a larger disk",
    ):
        mambabench.extract(*arguments, out=tmp_path / "out", jobs=1, progress=said.append)
    assert not said
    monkeypatch.undo()
    mambabench.extract(*arguments, out=tmp_path / "out", jobs=1, progress=said.append)
    assert len(said[0].sizes) == 1
    assert said[0].sizes[0].startswith("logmel_stats  superb_sd: 0.00667 h of audio x ")
    assert not any(one.sizes for one in said[1:])
    size = (tmp_path / "out/embeddings/logmel_stats/superb_sd/test.embeddings.npy").stat().st_size
    assert size > 0
