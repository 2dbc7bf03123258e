"""Published scores of released checkpoints, by the checkpoint's own name."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from mambabench.cli.models import command


@pytest.mark.parametrize(
    ("name", "scores"),
    [
        ("aum_base_scratch_as20k", [("AudioSet-20K", "mAP", 0.1405)]),
        ("aum_small_imagenet_voxceleb", [("VoxCeleb", "acc", 0.4178)]),
        ("aum_tiny_random", []),
        ("ssam_tiny_random", []),
    ],
)
def test_a_checkpoint_has_the_score_that_was_published_of_it(
    name: str, scores: list[tuple[str, str, float]]
) -> None:
    done = CliRunner().invoke(command, ["show", name, "--json"], catch_exceptions=False)
    found = json.loads(done.stdout)["published_scores"]
    assert [(row["task"], row["metric"], row["score"]) for row in found] == scores
