"""What engines cost and how they scale: units that do nothing, units that sleep, a large plan.

Usage: ``python perf/cluster.py [--units N] [--part overhead|scaling|memory|interrupt]...``; without
`--part` all of them. Writes ``results/scale/cluster.json`` and ``cluster.md``. Workers are logical:
Ray is told of more cores than there are, for units that sleep. No other Ray may run here.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import machine

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "scale"
PARTS = ("overhead", "scaling", "memory", "interrupt")


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


def warm(engine: Any, workers: int) -> None:
    """Have every worker answer once; crews live as long as a run, so this loads files only."""
    from mambabench.engine.units import Unit

    list(engine.run("cluster:empty", (Unit({"n": n}) for n in range(workers))))


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
    """Return the efficiency of units of one second, eight a worker, after the crew stands."""
    from mambabench.engine.units import Unit

    found = {}
    for workers in (1, 2, 4, 8, 16):
        engine = ray_engine(workers)
        warm(engine, workers)
        units = [Unit({"s": 1.0}) for _ in range(8 * workers)]
        crew = [0]
        stands = 0.0

        def note(seen: Any, crew: list[int] = crew) -> None:
            crew[0] = seen.workers

        begun = time.perf_counter()
        done_before = 0
        for i, _ in enumerate(engine.run("cluster:sleep", units, on_crew=note), 1):
            if not stands and crew[0] == workers:
                stands, done_before = time.perf_counter(), i
        ended = time.perf_counter()
        whole = ended - begun
        steady = (len(units) - done_before) / ((ended - stands) * workers) if stands else None
        found[str(workers)] = {
            "whole_s": round(whole, 2),
            "efficiency_with_start": round(len(units) / workers / whole, 3),
            "efficiency": None if steady is None else round(steady, 3),
        }
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


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=10_000)
    parser.add_argument("--part", action="append", choices=PARTS)
    options = parser.parse_args()
    path = RESULTS / "cluster.json"
    found = json.loads(path.read_text()) if path.is_file() else {}
    found["machine"] = machine()
    calls = {
        "overhead": lambda: overhead(options.units),
        "scaling": scaling,
        "memory": memory,
        "interrupt": interrupt,
    }
    for part in options.part or PARTS:
        found[part] = calls[part]()
        print(part, json.dumps(found[part], indent=1), flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")
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
