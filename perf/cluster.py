"""What engines cost and how they scale: units that do nothing, units that sleep, a large plan.

Usage: ``python perf/cluster.py [--units N] [--part NAME]...``; the parts are overhead, scaling,
memory, interrupt, commit and clips, without `--part` all of them. Writes
``results/scale/cluster.json`` and ``cluster.md``. Workers are logical: Ray is told of more cores
than there are, for units that sleep. No other Ray may run here.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common import machine

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "scale"
PARTS = ("overhead", "scaling", "memory", "interrupt", "commit", "clips")


def empty(spec: dict[str, Any], report: Callable[[Any], None]) -> int:
    """Do nothing."""
    return int(spec["n"])


def sleep(spec: dict[str, Any], report: Callable[[Any], None]) -> int:
    """Sleep for a second, and say which process did."""
    if spec.get("note"):
        with Path(spec["note"]).open("a") as file:
            file.write(f"{os.getpid()}\n")
    time.sleep(spec.get("s", 1.0))
    return 0


def ray_engine(workers: int) -> Any:
    """Start a Ray of so many logical cores; return the engine."""
    from mambabench.engine.on_ray import RayEngine

    return RayEngine("", jobs=workers)


def rate(engine: Any, n: int) -> dict[str, float]:
    """Return ms a unit from the first answer to the last, and the seconds to the first."""
    from mambabench.engine.units import Unit

    begun = time.perf_counter()
    first = 0.0
    count = 0
    for _ in engine.run("cluster:empty", (Unit({"n": i}) for i in range(n))):
        count += 1
        first = first or time.perf_counter()
    ended = time.perf_counter()
    assert count == n
    return {
        "units": n,
        "first_answer_s": round(first - begun, 2),
        "ms_per_unit": round(1e3 * (ended - first) / (n - 1), 4),
    }


def overhead(n: int) -> dict[str, Any]:
    """Return the cost of an empty unit on every engine."""
    from mambabench.engine.processes import LocalEngine

    found: dict[str, Any] = {}
    found["local, one process"] = rate(LocalEngine(1), n)
    found["local, two workers"] = rate(LocalEngine(2), n)
    begun = time.perf_counter()
    engine = ray_engine(2)
    found["ray starts in s"] = round(time.perf_counter() - begun, 1)
    found["ray, two workers"] = rate(engine, n)
    engine.close()
    return found


def scaling() -> dict[str, Any]:
    """Return the efficiency of units of one second, eight a worker, from the first of them on.

    Until every worker has come, units that take a moment are given out.
    """
    from mambabench.engine.units import Unit

    found = {}
    for workers in (1, 2, 4, 8, 16):
        begun = time.perf_counter()
        engine = ray_engine(workers)
        started = time.perf_counter()
        crew, n = [0], 8 * workers
        first: list[float] = []
        long_units: set[int] = set()

        def note(seen: Any, crew: list[int] = crew) -> None:
            crew[0] = seen.workers

        def units(
            workers: int = workers,
            crew: list[int] = crew,
            n: int = n,
            first: list[float] = first,
            long_units: set[int] = long_units,
        ) -> Iterator[Unit]:
            given = 0
            while crew[0] < workers:
                yield Unit({"s": 0.05})
                given += 1
            for i in range(n):
                if not first:
                    first.append(time.perf_counter())
                long_units.add(given + i)
                yield Unit({"s": 1.0})

        last = 0.0
        for index, _ in engine.run("cluster:sleep", units(), on_crew=note):
            if index in long_units:
                last = time.perf_counter()
        found[str(workers)] = {
            "ray_starts_s": round(started - begun, 1),
            "workers_stand_after_s": round(first[0] - started, 1),
            "seconds": round(last - first[0], 2),
            "efficiency": round(n / workers / (last - first[0]), 3),
            "load": round(os.getloadavg()[0], 1),
        }
        print(workers, found[str(workers)], flush=True)
        engine.close()
    return found


def memory() -> dict[str, Any]:
    """Return the memory that 50,000 planned shards of ten clips take, and their descriptions."""
    from mambabench.extract.unit import make_unit
    from mambabench.store.plan import EncoderSpec, PlannedClip, Shard

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    shards = []
    for i in range(50_000):
        clips = tuple(
            PlannedClip(j, f"clip{i:06d}-{j}.wav", f"/data/task/16000/train/clip{i:06d}-{j}.wav",
                        160_000, 320_044, None, (320_044, 10**18 + j, 10**6 + 10 * i + j))
            for j in range(10)
        )  # fmt: skip
        shards.append(Shard(f"{i:064x}", "train", clips, (10,), 16000))
    spec = EncoderSpec("e", "e", "0" * 64, 16000, 768, 768, None, "fp32", "cpu")
    for shard in shards:
        json.dumps(make_unit(Path("/out/embeddings/e/task"), "scene", spec, shard))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"shards": 50_000, "clips": 500_000, "mb": round((after - before) / 1024, 1)}


def commit() -> dict[str, Any]:
    """Return what the command itself takes to write shards that came from elsewhere, 2.8 MB each:
    4 GB of an encoder on HEAR's nineteen tasks are 1,440 of them."""
    import numpy as np

    from mambabench.extract.away import commit_files
    from mambabench.files import write_bytes
    from mambabench.store.plan import Shard
    from mambabench.store.shards import plan_path

    rows = np.random.default_rng(0).integers(0, 255, 2_800_000, dtype=np.uint8)
    n = 100
    with tempfile.TemporaryDirectory(dir=ROOT) as name:
        store = Path(name) / "task"
        write_bytes(plan_path(store), b"{}\n")
        shards = [Shard(f"{i:064x}", "train", (), (), 16_000) for i in range(n)]
        begun, cpu = time.perf_counter(), time.process_time()
        for shard in shards:
            commit_files(store, shard, b"{}\n", rows)
        wall, used = time.perf_counter() - begun, time.process_time() - cpu
    return {
        "shards": n,
        "wall ms a shard": round(1e3 * wall / n, 1),
        "cpu ms a shard": round(1e3 * used / n, 1),
    }


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from cluster import ray_engine
from mambabench.engine.units import Unit
engine = ray_engine(2)
try:
    list(engine.run("cluster:sleep", [Unit({"s": 600, "note": sys.argv[2]})] * 4))
finally:
    engine.close()
"""


def interrupt() -> dict[str, Any]:
    """Return the seconds from Ctrl-C to the end of the last worker."""
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "note"
        driver = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(ROOT / "perf"), str(note)],
            stderr=subprocess.DEVNULL,
        )
        while not note.exists() or len(note.read_text().split()) < 2:
            time.sleep(0.1)
        pids = [int(line) for line in note.read_text().split()]
        begun = time.perf_counter()
        driver.send_signal(signal.SIGINT)
        while any(Path(f"/proc/{pid}").exists() for pid in pids):
            time.sleep(0.02)
        workers = time.perf_counter() - begun
        driver.wait(60)
        return {
            "workers_ended_after_s": round(workers, 2),
            "command_ended_after_s": round(time.perf_counter() - begun, 2),
        }


N_CLIPS, N_CLASSES = 50_000, 2_000
VERB = """
import resource, sys, time
from mambabench.cli import main
sys.argv = ["mambabench", *sys.argv[1:]]
begun = time.perf_counter()
try:
    main()
finally:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(one.ru_utime + one.ru_stime for one in used)
    print("used", time.perf_counter() - begun, cpu, used[0].ru_maxrss, file=sys.stderr)
"""


def clips() -> dict[str, Any]:
    """Return time and memory of a task of 50,000 clips of 0.1 s and 2,000 classes."""
    import numpy as np
    import soundfile

    rng = np.random.default_rng(0)
    noise = 0.2 * rng.standard_normal(1_600 + N_CLASSES)
    found: dict[str, Any] = {"clips": N_CLIPS, "classes": N_CLASSES, "seconds each": 0.1}
    with tempfile.TemporaryDirectory() as name:
        task = Path(name) / "many-v1-test"
        number = 0
        for split, share in (("train", 0.8), ("valid", 0.1), ("test", 0.1)):
            folder = task / "16000" / split
            folder.mkdir(parents=True)
            entries = {}
            for _ in range(int(N_CLIPS * share)):
                label = number % N_CLASSES
                clip = f"{number:06d}.wav"
                soundfile.write(folder / clip, noise[label : label + 1_600], 16_000)
                entries[clip] = [label]
                number += 1
            (task / f"{split}.json").write_text(json.dumps(entries))
        rows = "".join(f"{i},{i}\n" for i in range(N_CLASSES))
        (task / "labelvocabulary.csv").write_text(f"idx,label\n{rows}")
        metadata = {
            "task_name": task.name, "embedding_type": "scene", "prediction_type": "multiclass",
            "split_mode": "trainvaltest", "splits": ["train", "valid", "test"],
            "sample_duration": 0.1, "evaluation": ["top1_acc"],
        }  # fmt: skip
        (task / "task_metadata.json").write_text(json.dumps(metadata))
        out = ["--out", str(Path(name) / "out")]
        given = {
            "extract": ["--encoder", "logmel_stats", "--tasks", str(task), "--jobs", "1"],
            "probe": ["--protocol", "knn", "--jobs", "1"],
            "report": ["--plot", "none", "--jobs", "1"],
        }
        for verb, words in given.items():
            done = subprocess.run(
                [sys.executable, "-c", VERB, verb, *words, *out], capture_output=True, text=True
            )
            if done.returncode:
                raise RuntimeError(f"{verb}: {done.stderr[-2000:]}")
            _, wall, cpu, kilobytes = done.stderr.strip().splitlines()[-1].split()
            found[verb] = {
                "wall_s": round(float(wall), 1), "cpu_s": round(float(cpu), 1),
                "mb": round(int(kilobytes) / 1024),
            }  # fmt: skip
        store = [path for path in (Path(name) / "out" / "embeddings").rglob("*") if path.is_file()]
        found["files of the store"] = len(store)
        found["mb of the store"] = round(sum(path.stat().st_size for path in store) / 1e6, 1)
    return found


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=10_000)
    parser.add_argument("--part", action="append", choices=PARTS)
    options = parser.parse_args()
    path = RESULTS / "cluster.json"
    measured: dict[str, Any] = {}
    calls = {
        "overhead": lambda: overhead(options.units),
        "scaling": scaling,
        "memory": memory,
        "interrupt": interrupt,
        "commit": commit,
        "clips": clips,
    }
    for part in options.part or PARTS:
        measured[part] = calls[part]()
        print(part, json.dumps(measured[part], indent=1), flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    found = json.loads(path.read_text()) if path.is_file() else {}
    found |= {**measured, "machine": machine()}
    path.write_text(json.dumps(found, indent=2) + "\n")
    lines = [
        "# Engines",
        "",
        "Made by `python perf/cluster.py`; the machine stands in cluster.json.",
    ]
    for part in PARTS:
        if part in found:
            lines += ["", f"## {part}", "", "| what | value |", "|---|---|"]
            lines += [f"| {name} | {_shown(value)} |" for name, value in found[part].items()]
    (RESULTS / "cluster.md").write_text("\n".join(lines) + "\n")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items())
    return str(value)


if __name__ == "__main__":
    main()
