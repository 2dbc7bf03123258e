"""Trainings of several ranks: --gpus starts them here, a job script asks SLURM for them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from small import SMALL, TINY

from mambabench.cli.train import ENCODERS, _own_arguments, command
from mambabench.train.recipes import find_recipe, read_recipe, recipe_names
from mambabench.train.slurm import job_script
from mambabench.train.verb import plan_encoder

RECIPES = {
    name: system
    for name in recipe_names()
    if (system := read_recipe(find_recipe(name), {}).system) in ENCODERS
}


@pytest.mark.slow
def test_gpus_starts_so_many_ranks(
    tars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**TINY, **SMALL["ssam"][2], "epochs": 1, "max_steps": 1}
    words = ["ssam", "--gpus", "2", "--device", "cpu", "--data", str(tars), "--out", str(tmp_path)]
    words += [w for k, v in settings.items() for w in ("--set", f"{k}={v}")]
    monkeypatch.setattr(sys, "argv", ["mambabench", "train", *words])
    done = CliRunner().invoke(command, words, standalone_mode=False)
    assert done.return_value == 0, done.output
    (folder,) = (tmp_path / "train" / "ssam" / "audioset").iterdir()
    assert json.loads((folder / "provenance.json").read_text())["ranks"] == 2
    assert json.loads((folder / "run.json").read_text())["folds"][0]["steps"] == 1


def test_what_fails_in_a_rank_fails_here(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    def run(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        started.extend(words)
        return subprocess.CompletedProcess(words, 7)

    monkeypatch.setattr(subprocess, "run", run)
    words = ["aum", "--device", "cpu", "--gpus", "3"]
    monkeypatch.setattr(sys, "argv", ["mambabench", "train", *words])
    done = CliRunner().invoke(command, words, standalone_mode=False)
    assert done.return_value == 1
    assert "--nproc-per-node=3" in started
    assert started[-5:] == ["mambabench", "train", "aum", "--device", "cpu"]


def test_more_gpus_than_there_are_are_refused() -> None:
    done = CliRunner().invoke(command, ["ssam", "--gpus", "999", "--device", "auto"])
    assert done.exit_code == 2
    assert "--gpus 999: this machine has" in done.output
    assert "--device cpu runs the ranks on its processor" in done.output


def test_a_rank_is_told_all_but_what_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["train", "aum", "--gpus", "2", "--set", "lr=1", "--gpus=3", "--slurm", "--dry-run"]
    monkeypatch.setattr(sys, "argv", ["mambabench", *words])
    assert _own_arguments() == ["train", "aum", "--set", "lr=1"]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_a_job_with_as_many_ranks_as_gpus(name: str) -> None:
    planned = plan_encoder(RECIPES[name], recipe=name)
    words = ["train", RECIPES[name], "--recipe", name, "--out", "a b"]
    for n in range(1, 33):
        script = job_script(planned, n, words)
        found = re.search(r"--nodes=(\d+) --ntasks-per-node=(\d+) --gpus-per-node=(\d+)\n", script)
        assert found is not None
        nodes, tasks, gpus = map(int, found.groups())
        assert nodes * tasks == n
        assert gpus == tasks <= 8
    assert f"--job-name={name}\n" in script
    called = f"mambabench train {RECIPES[name]} --recipe {name} --out 'a b' --resume\n"
    assert script.endswith(f"srun {called}")
    assert job_script(planned, 1, [*words, "--resume"]).count("--resume") == 1


def test_a_job_fills_its_nodes_evenly() -> None:
    planned = plan_encoder("ssam")
    for n, shape in ((8, (1, 8)), (12, (2, 6)), (13, (13, 1)), (16, (2, 8)), (20, (4, 5))):
        wanted = f"--nodes={shape[0]} --ntasks-per-node={shape[1]} "
        assert wanted in job_script(planned, n, [])
