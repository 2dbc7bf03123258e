"""The unit of extraction on a node that has not everything, without any cluster."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from mambabench.errors import DataError, EncoderError
from mambabench.extract import unit as units
from mambabench.extract.away import absolute, encode_away, files_of_encoder
from mambabench.extract.plan import Budget, plan_task
from mambabench.store.plan import EncoderSpec

PROVIDER = """
import torch
from helper_of_away import WIDTH

class Model(torch.nn.Module):
    sample_rate = 16000
    scene_embedding_size = WIDTH
    timestamp_embedding_size = WIDTH

def load_model(model_file_path=""):
    return Model().eval()

def get_timestamp_embeddings(audio, model):
    n = audio.shape[1] // 320
    frames = audio[:, : n * 320].unfold(1, 320, 320)[:, :, :WIDTH]
    return frames, 20.0 * torch.arange(n).repeat(len(audio), 1)

def get_scene_embeddings(audio, model):
    return audio[:, :WIDTH]
"""


@pytest.fixture
def unit(tmp_path: Path, task_of_noise: Path) -> dict[str, Any]:
    """Return the unit of a first shard, whose encoder is a file with a helper beside it."""
    from mambabench.benchmarks import discover

    home = tmp_path / "home"
    home.mkdir()
    (home / "enc.py").write_text(PROVIDER)
    (home / "helper_of_away.py").write_text("WIDTH = 4\n")
    name = absolute(str(home / "enc.py"))
    encoder = units.load(name, "cpu", "fp32")
    spec = EncoderSpec(name, "enc", encoder.identity, 16000, 4, 4, None, "fp32", "cpu")
    (task,) = discover([task_of_noise], ())
    shard = plan_task(task, spec, Budget(1.0, 1.0)).shards[0]
    made = units.make_unit(tmp_path / "nowhere", "scene", spec, shard, 0.5)
    units.forget()
    return {**made, "files": files_of_encoder(name), "shard": asdict(shard)}


def test_an_encoder_file_travels_with_its_neighbours(unit: dict[str, Any], tmp_path: Path) -> None:
    here = encode_away(unit, lambda report: None)
    units.forget()
    shutil.rmtree(tmp_path / "home")
    there = encode_away(unit, lambda report: None)
    assert bytes(there["rows"]) == bytes(here["rows"])
    assert there["record"] == here["record"]
    assert not (tmp_path / "nowhere").exists(), "nothing is written where the driver writes"


def test_an_encoder_that_did_not_travel_is_missed_by_the_name_of_the_node(
    unit: dict[str, Any], tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "home")
    with pytest.raises(EncoderError, match=r"^node \S+: encoder file .*enc.py is not there"):
        encode_away({**unit, "files": {}}, lambda report: None)


def test_audio_that_a_node_lacks_is_named_with_the_node(unit: dict[str, Any]) -> None:
    clip = unit["shard"]["clips"][0]["path"]
    Path(clip).unlink()
    with pytest.raises(DataError, match=rf"^node \S+: {clip} is not there, but on the machine"):
        encode_away(unit, lambda report: None)
