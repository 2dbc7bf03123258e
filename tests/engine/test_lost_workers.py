"""Workers that die or hang: units begin again, are lost by name, and clips to blame are found."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

from mambabench.cli.extract import show_extracted
from mambabench.engine.choice import wanted_engine
from mambabench.engine.processes import LocalEngine, run_beside
from mambabench.engine.units import Lost, Unit
from mambabench.errors import DataError, MambabenchError
from mambabench.extract.verb import extract
from mambabench.status import status

UNITS = """
import os, time
from mambabench.errors import DataError

def work(spec, report):
    if spec.get("once") and not os.path.exists(spec["once"]):
        open(spec["once"], "w").close()
        os.kill(os.getpid(), 9)
    if spec["n"] == 3:
        os.kill(os.getpid(), 9)
    if spec["n"] == 4:
        time.sleep(600)
    if spec["n"] == 5:
        raise DataError("five is bad")
    return spec["n"]
"""
# a HEAR provider that dies of loud clips
PROVIDER = """
import os, time
import torch

class Model(torch.nn.Module):
    sample_rate = 16000
    scene_embedding_size = 3
    timestamp_embedding_size = 3

def load_model(model_file_path=""):
    return Model().eval()

def get_timestamp_embeddings(audio, model):
    n = audio.shape[1] // 320
    frames = audio[:, : n * 320].unfold(1, 320, 320)[:, :, :3]
    return frames, 20.0 * torch.arange(n).repeat(len(audio), 1)

def get_scene_embeddings(audio, model):
    if (audio.abs().amax() > 0.95):
        ACTION
    return audio[:, :3]
"""


@pytest.fixture
def function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "lost_units.py").write_text(UNITS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "lost_units:work"


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_unit_that_kills_its_worker_is_lost_and_the_others_are_done(
    function: str, jobs: int, tmp_path: Path
) -> None:
    units = [Unit({"n": n}) for n in range(6) if n != 4]
    units.append(Unit({"n": 7, "once": str(tmp_path / "once")}))
    engine = LocalEngine(jobs, separate=True)
    found = {units[i].spec["n"]: result for i, result in engine.run(function, units)}
    lost, bad = found.pop(3), found.pop(5)
    assert isinstance(lost, Lost)
    assert lost.reason.startswith("a worker process ended with signal 9")
    assert isinstance(bad, DataError)
    assert found == {0: 0, 1: 1, 2: 2, 7: 7}, "one that dies once is begun again"


def test_a_unit_that_hangs_is_lost_after_its_time(function: str) -> None:
    units = [Unit({"n": n}) for n in (1, 4, 2)]
    found = dict(LocalEngine(1, timeout_s=10.0).run(function, units))
    assert (found[0], found[2]) == (1, 2)
    assert found[1] == Lost("it took longer than 10 s (--timeout)")


def provider(tmp_path: Path, action: str) -> str:
    path = tmp_path / "frail.py"
    path.write_text(PROVIDER.replace("ACTION", action))
    return str(path)


@pytest.fixture
def task_with_two_bad_clips(task_of_noise: Path) -> Path:
    for name, peak in (("train001.wav", 1.0), ("test003.wav", 0.97)):
        path = next(task_of_noise.glob(f"16000/*/{name}"))
        audio, rate = soundfile.read(path)
        soundfile.write(path, peak * audio / abs(audio).max(), rate)
    return task_of_noise


DIE = "os.kill(os.getpid(), 11)"
BAD = {"train/train001.wav", "test/test003.wav"}


def test_skip_goes_on_without_exactly_the_clips_that_kill(
    task_with_two_bad_clips: Path, tmp_path: Path
) -> None:
    done = extract(
        provider(tmp_path, "os.kill(os.getpid(), 9 if audio.abs().amax() > 0.99 else 11)"),
        task_with_two_bad_clips,
        out=tmp_path / "out",
        jobs=2,
        on_error="skip",
    )
    (outcome,) = done.outcomes
    assert outcome.state == "sealed"
    assert set(outcome.missing) == BAD
    assert all("this clip" in why for why in outcome.missing.values())
    assert "signal 11" in outcome.missing["test/test003.wav"]
    # what the kernel ends by 9 had taken all memory
    assert "signal 9 (out of memory perhaps" in outcome.missing["train/train001.wav"]
    folder = outcome.directory
    manifest = json.loads((folder / "manifest.json").read_text())
    assert sum(split["n_clips"] for split in manifest["splits"].values()) == 18 - len(BAD)


def test_an_encoder_that_hangs_is_ended_and_its_clips_are_named(
    task_with_two_bad_clips: Path, tmp_path: Path
) -> None:
    done = extract(
        provider(tmp_path, "time.sleep(600)"),
        task_with_two_bad_clips,
        out=tmp_path / "out",
        jobs=1,
        timeout=12.0,
    )
    (outcome,) = done.outcomes
    assert outcome.state == "incomplete"
    assert set(outcome.missing) >= BAD
    why = outcome.missing["train/train001.wav"]
    assert why.startswith("it took longer than 12 s (--timeout) while it encoded train000.wav")


def test_stop_names_the_clips_in_hand_and_the_same_command_tries_them_again(
    task_with_two_bad_clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder, out = provider(tmp_path, DIE), tmp_path / "out"
    done = extract(encoder, task_with_two_bad_clips, out=out, jobs=2)
    (outcome,) = done.outcomes
    assert outcome.state == "incomplete"
    assert set(outcome.missing) >= BAD
    why = outcome.missing["train/train001.wav"]
    assert "signal 11 while it encoded train" in why
    assert "--on-error skip" in why
    show_extracted(done)
    lines = [line for line in capsys.readouterr().err.splitlines() if "signal 11" in line]
    assert len(lines) == 2, "one a shard: clips that are missing for the same reason are counted"
    assert sum(1 + int(line.split(" and ")[1].split()[0]) for line in lines) == len(outcome.missing)
    (cell,) = status(out).cells
    assert (cell.failed, cell.finished) == (2, False)
    for name in BAD:
        path = task_with_two_bad_clips / "16000" / name
        audio, rate = soundfile.read(path)
        soundfile.write(path, audio / 4, rate)
    # the clips have changed, so their shards are encoded anew
    (outcome,) = extract(encoder, task_with_two_bad_clips, out=out, jobs=2).outcomes
    assert (outcome.state, outcome.missing) == ("sealed", {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rai", "is not local, ray.*did you mean 'ray'"),
        ("local:2", "local takes nothing"),
        ("slurm:partitoin=a", "did you mean 'partition'"),
        ("slurm:shares=0", "not a whole number"),
        ("slurm:cluster=pbs", "not slurm or local"),
    ],
)
def test_wrong_engines_are_named(text: str, said: str) -> None:
    with pytest.raises(MambabenchError, match=said):
        wanted_engine(text)


def test_an_engine_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mambabench.engine.choice.find_spec", lambda name: None)
    with pytest.raises(MambabenchError, match=r'pip install "mambabench\[ray\]"'):
        extract("logmel_stats", engine="ray")


def test_status_of_nothing(tmp_path: Path) -> None:
    assert status(tmp_path).cells == ()
    with pytest.raises(MambabenchError, match="is no folder"):
        status(tmp_path / "none")


def test_two_shares_wait_for_each_other_and_status_tells(
    task_of_noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mambabench.extract import verb
    from mambabench.extract.plan import Budget

    monkeypatch.setitem(verb.BUDGETS, "cpu", Budget(batch_s=1.0, shard_s=1.0))
    out = tmp_path / "out"
    run: Callable[..., Any] = extract
    run("logmel_stats", task_of_noise, out=out, jobs=1, shard="1/2")
    (cell,) = status(out).cells
    assert cell.done > 0
    assert cell.waiting > 0
    assert (cell.running, cell.failed, cell.unit) == (0, 0, "shards")
    before = sorted(p.name for p in out.rglob("*"))
    status(out)
    assert sorted(p.name for p in out.rglob("*")) == before, "it only reads"
    run("logmel_stats", task_of_noise, out=out, jobs=1, shard="2/2")
    (cell,) = status(out).cells
    assert (cell.finished, cell.waiting) == (True, 0)
    assert not (out / "jobs").exists()


def test_a_unit_beside_this_process(function: str) -> None:
    """Its result, or None where it failed or died; it is ended with the context."""
    for n, expected in ((1, 1), (3, None), (5, None)):
        with run_beside(function, {"n": n}) as wait:
            assert wait() == expected
    begun = time.monotonic()
    with run_beside(function, {"n": 4}):
        pass
    assert time.monotonic() - begun < 60
