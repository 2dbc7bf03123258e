"""The one loop: ranks, micro-batches, precision, killing and continuing, for every system."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_training_loops import free_port
from small import SMALL, furthest, run, weights

from mambabench.errors import ProtocolError
from mambabench.train import loop
from mambabench.train.log import read_log

Data = dict[str, Path]


@pytest.fixture(scope="session")
def data(tars: Path, lists: Path) -> Data:
    return {"tars": tars, "lists": lists}


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _rank(rank: int, world: int, data: Data, ports: dict[str, int], out: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
    for name, port in ports.items():
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        run(name, data, Path(out) / name)


def test_two_ranks_equal_one_in_every_system(data: Data, tmp_path: Path) -> None:
    import torch.multiprocessing as mp

    ports = {name: free_port() for name in SMALL}
    mp.spawn(_rank, (2, data, ports, str(tmp_path / "two")), nprocs=2)
    for name in SMALL:
        alone = run(name, data, tmp_path / "one" / name)
        assert alone.error is None
        folder = tmp_path / "two" / name / alone.folder.relative_to(tmp_path / "one" / name)
        from mambabench.train.state import load_tensors

        both, _ = load_tensors(folder / "weights.safetensors")
        assert furthest(weights(alone), both) <= 1e-5, name


@pytest.mark.parametrize("name", SMALL)
def test_micro_batches_equal_the_large_batch(name: str, data: Data, tmp_path: Path) -> None:
    whole = run(name, data, tmp_path / "whole")
    parts = run(name, data, tmp_path / "parts", {"accumulate": 4})
    assert furthest(weights(whole), weights(parts)) <= 1e-5


@pytest.mark.parametrize("name", SMALL)
def test_workers_do_not_matter(name: str, data: Data, tmp_path: Path) -> None:
    alone = run(name, data, tmp_path / "alone", {"max_steps": 2})
    helped = run(name, data, tmp_path / "helped", {"max_steps": 2, "workers": 2})
    assert furthest(weights(alone), weights(helped), exactly=True) == 0


class Killed(BaseException):
    """Stands for the end of the process: nothing may catch it."""


@pytest.mark.parametrize("name", SMALL)
def test_a_killed_run_ends_in_the_same_weights(
    name: str, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = run(name, data, tmp_path / "undisturbed")
    moments = random.Random(name)
    plain = loop._forward
    for kill in range(10):
        left = 1 if kill == 0 else moments.randrange(1, 4)

        def forward(work: Any, batch: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return plain(work, batch)

        monkeypatch.setattr(loop, "_forward", forward)
        try:
            done = run(name, data, tmp_path / "killed", resume=True, save_steps=1)
            break
        except Killed:
            continue
    else:
        monkeypatch.setattr(loop, "_forward", plain)
        done = run(name, data, tmp_path / "killed", resume=True)
    assert done.state == "resumed"
    assert furthest(weights(undisturbed), weights(done), exactly=True) == 0
    lines = [read_log(r.folder / "log.jsonl") for r in (undisturbed, done)]
    shown = [[(x["kind"], x["step"], x.get("loss")) for x in rows] for rows in lines]
    assert shown[0] == shown[1]
    assert undisturbed.result["folds"] == done.result["folds"]


SCRIPT = """
import sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from small import run
torch.set_num_threads(1)
run(sys.argv[2], {"tars": Path(sys.argv[3]), "lists": Path(sys.argv[4])}, Path(sys.argv[5]),
    {"epochs": 6}, resume=True, save_steps=1)
"""


def _killed(name: str, data: Data, out: Path, after: list[float]) -> None:
    """Start the training again and again, killing it so many seconds after its first state."""
    words = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), name]
    words += [str(data["tars"]), str(data["lists"]), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for seconds in after:
        known = {p: p.stat().st_mtime_ns for p in out.rglob("state.safetensors")}
        process = subprocess.Popen(words, env=environment)
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            now = {p: p.stat().st_mtime_ns for p in out.rglob("state.safetensors")}
            if now != known:
                time.sleep(seconds)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        process.wait()
    subprocess.run(words, env=environment, check=True)


def test_kill_9(data: Data, tmp_path: Path) -> None:
    undisturbed = run("ssam", data, tmp_path / "undisturbed", {"epochs": 6})
    _killed("ssam", data, tmp_path / "killed", [0.0])
    folder = tmp_path / "killed" / undisturbed.folder.relative_to(tmp_path / "undisturbed")
    from mambabench.train.state import load_tensors

    assert (
        furthest(
            weights(undisturbed), load_tensors(folder / "weights.safetensors")[0], exactly=True
        )
        == 0
    )


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("name", SMALL)
def test_half_precision_stays_near(name: str, precision: str, data: Data, tmp_path: Path) -> None:
    full = run(name, data, tmp_path / "full", {"max_steps": 2})
    half = run(name, data, tmp_path / "half", {"max_steps": 2}, precision=precision)
    assert half.error is None
    losses = [[x["loss"] for x in read_log(r.folder / "log.jsonl") if x["kind"] == "step"]
              for r in (full, half)]  # fmt: skip
    assert losses[0] != losses[1]  # it did run in half precision
    assert losses[1] == pytest.approx(losses[0], rel=0.03)
    # a scale of 65536 may be too much for the first step, and is halved then
    assert half.result["folds"][0]["overflowed_steps"] <= 1


def test_a_half_precision_run_continues_with_its_scaler(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = run("ssam", data, tmp_path / "a", precision="fp16")
    plain, left = loop._forward, 3

    def forward(work: Any, batch: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return plain(work, batch)

    monkeypatch.setattr(loop, "_forward", forward)
    with pytest.raises(Killed):
        run("ssam", data, tmp_path / "b", precision="fp16", save_steps=1)
    monkeypatch.setattr(loop, "_forward", plain)
    done = run("ssam", data, tmp_path / "b", precision="fp16", resume=True)
    assert furthest(weights(undisturbed), weights(done), exactly=True) == 0


@pytest.mark.parametrize("name", ["ssam", "ssamba", "aum"])
def test_our_kernels_train_like_the_reference_scan(
    name: str, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mambabench.models.scan.backends import VARIABLE

    settings = {"epochs": 10, "max_steps": 20, "lr": 1e-3}
    ours = run(name, data, tmp_path / "ours", settings)
    monkeypatch.setenv(VARIABLE, "reference")
    theirs = run(name, data, tmp_path / "reference", settings)
    losses = [[x["loss"] for x in read_log(r.folder / "log.jsonl") if x["kind"] == "step"]
              for r in (ours, theirs)]  # fmt: skip
    assert len(losses[0]) == 20
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert furthest(weights(ours), weights(theirs)) <= 1e-4


def test_recomputing_blocks_changes_nothing(data: Data, tmp_path: Path) -> None:
    plain = run("ssamba", data, tmp_path / "plain", {"max_steps": 2})
    again = run("ssamba", data, tmp_path / "again", {"max_steps": 2, "checkpointing": True})
    assert furthest(weights(plain), weights(again)) <= 1e-6


def test_a_loss_that_is_no_number_names_step_clips_and_rate(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls = loop._forward, 0

    def forward(work: Any, batch: Any) -> Any:
        nonlocal calls
        calls += 1
        found = plain(work, batch)
        return found if calls < 3 else found._replace(loss=found.loss * float("nan"))

    monkeypatch.setattr(loop, "_forward", forward)
    done = run("ssam", data, tmp_path, save_steps=1)
    assert done.state == "failed"
    for part in ("step 2: the loss is nan", "rate", "clip0x", "last good state stays"):
        assert part in done.error
    state = done.folder / "state.safetensors"
    assert state.is_file()
    monkeypatch.setattr(loop, "_forward", plain)
    assert run("ssam", data, tmp_path, resume=True).state == "resumed"


def _bad_rank(rank: int, world: int, data: Data, port: int, out: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    plain = loop._forward

    def forward(work: Any, batch: Any) -> Any:
        found = plain(work, batch)
        if rank == 0:
            return found
        Path(out, "bad").write_text(", ".join(batch.names))
        return found._replace(loss=found.loss * float("nan"))

    loop._forward = forward
    try:
        run("ssam", data, Path(out))
    except ProtocolError as error:
        Path(out, f"rank{rank}").write_text(str(error))


def test_the_clips_of_the_rank_whose_loss_is_no_number_are_named(
    data: Data, tmp_path: Path
) -> None:
    import torch.multiprocessing as mp

    mp.spawn(_bad_rank, (2, data, free_port(), str(tmp_path)), nprocs=2)
    for rank in range(2):
        said = (tmp_path / f"rank{rank}").read_text()
        assert f"clips of the batch: {(tmp_path / 'bad').read_text()}. The last" in said


def test_aum_skips_a_bad_step_and_gives_up_on_many(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, bad = loop._forward, {1}
    calls = -1

    def forward(work: Any, batch: Any) -> Any:
        nonlocal calls
        calls += 1
        found = plain(work, batch)
        return found if calls not in bad else found._replace(loss=found.loss * float("inf"))

    monkeypatch.setattr(loop, "_forward", forward)
    done = run("aum", data, tmp_path / "one")
    assert done.result["folds"][0]["skipped_steps"] == 1
    bad, calls = {1, 2, 3}, -1
    done = run("aum", data, tmp_path / "many")
    assert "more than 1 % of all" in done.error


@pytest.mark.parametrize(
    ("name", "file", "count"),
    [
        ("ssam", "state.safetensors", 3),
        ("ssam", "checkpoint-1.pth", 1),
        ("ssam", "weights.safetensors", 1),
        ("aum", "best.safetensors", 2),
        ("aum", "weights.safetensors", 1),
    ],
)
def test_no_space_for_a_file_leaves_the_last_good_ones(
    name: str, file: str, count: int, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, replace, left = loop._evaluate, os.replace, count
    kept: dict[Path, bytes] = {}

    def always_better(work: Any, progress: Any, ranks: Any) -> None:
        progress.best = None
        judge(work, progress, ranks)

    def full(temporary: Path, path: Path) -> None:
        nonlocal left
        left -= Path(path).name == file
        if left == 0 and Path(path).name == file:
            tree = (p for p in Path(path).parent.parent.rglob("*") if p.suffix != ".tmp")
            kept.update({p: p.read_bytes() for p in tree if p.suffix in (".pth", ".safetensors")})
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(temporary, path)

    monkeypatch.setattr(loop, "_evaluate", always_better)
    undisturbed = run(name, data, tmp_path / "a")
    monkeypatch.setattr(os, "replace", full)
    done = run(name, data, tmp_path / "b", save_steps=1)
    assert done.state == "failed"
    assert "No space left on device" in done.error
    assert "--resume" in done.error
    assert any(p.name == "state.safetensors" for p in kept)
    assert count == 1 or any(p.name == file for p in kept)  # written before
    assert {p: p.read_bytes() for p in kept} == kept
    assert not list(done.folder.rglob("*.tmp"))
    done = run(name, data, tmp_path / "b", resume=True)
    assert done.state == "resumed"
    assert furthest(weights(undisturbed), weights(done), exactly=True) == 0


def test_a_finished_run_is_left_alone_and_a_begun_one_not_continued_unasked(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mambabench.errors import StoreError

    assert run("aum", data, tmp_path).state == "trained"
    assert run("aum", data, tmp_path).state == "already"
    with pytest.raises(StoreError, match="trained with another lr"):
        run("aum", data, tmp_path, {"lr": 2e-3})

    def forward(*_: Any) -> Any:
        raise Killed

    plain = loop._forward
    monkeypatch.setattr(loop, "_forward", forward)
    with pytest.raises(Killed):
        run("ssam", data, tmp_path / "b")
    monkeypatch.setattr(loop, "_forward", plain)
    run("ssam", data, tmp_path / "b")  # nothing was done yet: no state to continue
