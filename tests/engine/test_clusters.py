"""Ray with three nodes on this machine, and submitit's stand-in for SLURM: the bytes of local."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mambabench.engine.units import Lost, Unit
from mambabench.errors import DataError, MambabenchError
from mambabench.extract import verb
from mambabench.extract.plan import Budget
from mambabench.pipeline import run

ray = pytest.importorskip("ray", reason="needs Ray: pip install mambabench[ray]")
pytest.importorskip("submitit", reason="needs submitit: pip install mambabench[slurm]")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

UNITS = """
import os, time
from mambabench.errors import DataError

def work(spec, report):
    report(spec["n"])
    if spec["n"] == 3:
        os.kill(os.getpid(), 9)
    if spec["n"] == 5:
        raise DataError("five is bad")
    if spec.get("note"):
        with open(spec["note"], "a") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(spec["sleep"])
    return spec["n"] + (0 if "shared" not in spec else int(spec["shared"].sum()))
"""
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start a head and two nodes of one core each; workers find the module of units."""
    from ray.cluster_utils import Cluster

    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
    found = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    for _ in range(2):
        found.add_node(**NODE)
    try:
        yield found
    finally:
        ray.shutdown()
        found.shutdown()


@pytest.fixture
def engine(cluster: Any) -> Iterator[Any]:
    from mambabench.engine.on_ray import RayEngine

    made = RayEngine(cluster.address)
    yield made
    made.close()


@pytest.fixture
def function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "cluster_units.py").write_text(UNITS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "cluster_units:work"


def results(folder: Path) -> dict[str, bytes]:
    """Return all results below an output folder, without times and places."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for top in ("embeddings", "probes")
        for p in (folder / top).rglob("*")
        if p.is_file() and not p.name.endswith(("provenance.json", "audio-seen.json"))
    }


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(verb.BUDGETS, "cpu", Budget(batch_s=1.0, shard_s=1.0))


def test_units_on_ray(engine: Any, function: str) -> None:
    import numpy as np

    from mambabench.engine.units import Shared

    loads: list[int] = []

    def load() -> Any:
        loads.append(1)
        return np.ones(1000)

    reports: list[int] = []
    units = [Unit({"n": n}, Shared("ones", load) if n > 5 else None) for n in range(9)]
    found = dict(engine.run(function, units, on_report=reports.append))
    assert isinstance(found.pop(3), Lost), "begun three times, then lost by name"
    assert isinstance(found.pop(5), DataError)
    assert found == {n: n + (1000 if n > 5 else 0) for n in range(9) if n not in (3, 5)}
    assert loads == [1], "sent once"
    assert set(reports) >= set(found)


def test_workers_that_are_killed_and_nodes_that_leave_lose_nothing(
    engine: Any, cluster: Any, function: str, tmp_path: Path
) -> None:
    note = tmp_path / "note"
    leaver = cluster.add_node(**NODE)
    units = [Unit({"n": 10 + n, "note": str(note), "sleep": 0.5}) for n in range(24)]

    def trouble() -> None:
        while not note.exists():
            time.sleep(0.05)
        os.kill(int(note.read_text().split()[0]), signal.SIGKILL)
        time.sleep(2)
        cluster.remove_node(leaver, allow_graceful=False)

    thread = threading.Thread(target=trouble)
    thread.start()
    found = list(engine.run(function, units))
    thread.join()
    assert sorted(found) == [(n, 10 + n) for n in range(24)], "nothing twice, nothing lost"


def test_leaving_ends_the_workers(engine: Any, function: str, tmp_path: Path) -> None:
    note = tmp_path / "note"
    units = [Unit({"n": 0})] + [Unit({"n": 1, "note": str(note), "sleep": 600})] * 3
    answers = engine.run(function, units)
    assert next(answers) == (0, 0)
    while not note.exists():
        time.sleep(0.1)
    begun = time.monotonic()
    answers.close()
    pids = [int(line) for line in note.read_text().split()]
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() - begun < 30
        time.sleep(0.05)


OPTIONS: dict[str, Any] = {"seeds": 2, "protocol": "sound", "format": "json"}


def test_run_gives_the_bytes_of_local_on_ray_and_slurm(
    engine: Any,
    cluster: Any,
    task_of_noise: Path,
    tmp_path: Path,
    small_shards: None,
) -> None:
    run("logmel_stats", task_of_noise, out=tmp_path / "local", jobs=1, **OPTIONS)
    wanted = results(tmp_path / "local")
    assert len(wanted) > 10
    for i, name in enumerate((f"ray:{cluster.address}", "slurm:cluster=local,shares=2")):
        out = tmp_path / f"elsewhere{i}"
        done = run("logmel_stats", task_of_noise, out=out, jobs=1, engine=name, **OPTIONS)
        assert not done.failed
        assert results(out) == wanted, name
    assert list((out / "jobs").rglob("*.jsonl")), "shares and results of the array"


def test_what_ray_began_is_finished_here(
    engine: Any, cluster: Any, task_of_noise: Path, tmp_path: Path, small_shards: None
) -> None:
    where = f"ray:{cluster.address}"
    extract: Callable[..., Any] = verb.extract
    for out, engines in (("a", (where, "local")), ("b", ("local", where)), ("c", ("local",) * 2)):
        for i, name in enumerate(engines, 1):
            shard = f"{i}/2"
            extract(
                "logmel_stats", task_of_noise, out=tmp_path / out, engine=name, shard=shard, jobs=1
            )
    assert results(tmp_path / "a") == results(tmp_path / "c")
    assert results(tmp_path / "b") == results(tmp_path / "c")


def test_no_ray_at_an_address_is_named() -> None:
    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(MambabenchError, match="no Ray 127.0.0.1:1 .*ray start --head"):
        from mambabench.engine.on_ray import RayEngine

        RayEngine("127.0.0.1:1")


def test_what_a_killed_head_left_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mambabench.engine.ray_connect import started_here

    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert started_here() == ""
    note = tmp_path / "ray" / "ray_current_cluster"
    note.parent.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        note.write_text(address + "\n")
        assert started_here() == address
    assert started_here() == "", "nobody listens there any more"


def test_a_head_that_asks_for_a_token_is_joined() -> None:
    """Ray asks for one as soon as ~/.ray/auth_token is there, as a Ray of ours has left it."""
    with tempfile.TemporaryDirectory(prefix="r") as name:  # sockets have short names
        folder = Path(name)
        (folder / ".ray").mkdir()
        (folder / ".ray" / "auth_token").write_text("ab" * 32)
        own = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        own |= {"HOME": name, "RAY_TMPDIR": name, "RAY_USAGE_STATS_ENABLED": "0"}
        start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        more = ["--port=0", "--num-cpus=1", "--include-dashboard=false"]
        memory = f"--object-store-memory={NODE['object_store_memory']}"
        head = subprocess.Popen([*start, *more, memory], env=own, start_new_session=True)
        try:
            join = (
                "import time, ray; from mambabench.engine.ray_connect import *\n"
                "while not started_here(): time.sleep(0.2)\n"
                "connect('', 3); print('cores:', ray.cluster_resources()['CPU'])"
            )
            command = [sys.executable, "-c", join]
            done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=90)
        finally:
            os.killpg(head.pid, signal.SIGTERM)
            head.wait()
        assert "cores: 1.0" in done.stdout, done.stderr


def test_what_no_token_was_given_for_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    from mambabench.engine.ray_connect import connect

    def refuse(*address: str, **options: Any) -> None:
        raise ConnectionError(f"Failed to connect to {address[0]}")

    if ray.is_initialized():
        ray.shutdown()
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setattr(ray, "init", refuse)
    with (
        socket.create_server(("127.0.0.1", 0)) as head,
        pytest.raises(MambabenchError, match="with RAY_AUTH_MODE=token and its token"),
    ):
        connect(f"127.0.0.1:{head.getsockname()[1]}", 1)


def test_a_worker_that_greets_has_imported_what_its_units_need(tmp_path: Path) -> None:
    from mambabench.engine.on_ray import _Hand

    (tmp_path / "units_of_mine.py").write_text("def double(spec, report):\n    return 2\n")
    before = list(sys.path)
    try:
        _Hand().hello([str(tmp_path)], "units_of_mine:double")
        assert "units_of_mine" in sys.modules
        _Hand().hello([], "no_such_module:double")  # its first unit says so
    finally:
        sys.path[:] = before
        sys.modules.pop("units_of_mine", None)
