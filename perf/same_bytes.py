"""Hash every result of a small pipeline, so that two versions of the code can be compared.

Usage: ``python perf/same_bytes.py OUT [--data FOLDER] > hashes.json``; run it with each version,
OUT emptied in between (prepared tasks name the folder of their corpus), and compare what it prints.
Extract, probe and report are run on two demo tasks, on two real tasks (FOLDER holds `unpack.py`;
left out without it) and on a generated SUPERB tree. Hashed are embeddings, records, predictions and
report.json; not times, hosts and versions.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REAL = ("esc50-v2.0.0-esc10", "instr_pitch-v1-full")
DEMO = ("--task", "demo_pitch-v1-demo", "--task", "demo_events-v1-demo")
LEFT_OUT = ("provenance.json", "report.html", "plot.json")


def verb(*arguments: str | Path) -> None:
    """Run a verb of the checkout that this file lies in."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mambabench", *map(str, arguments)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def pipeline(out: Path, tasks: Path, protocol: str, *more: str) -> None:
    """Extract, probe with two seeds and report one folder of tasks."""
    verb("extract", "--tasks", tasks, "--encoder", "logmel_stats", "--out", out, *more)
    grid = ("--grid", "faster") if protocol.startswith(("superb", "hear")) else ()
    verb("probe", "--protocol", protocol, "--seeds", "2", "--out", out, *grid)
    verb("report", "--out", out, "--format", "json")


def hashes(out: Path) -> dict[str, str]:
    """Return the hash of every result below `out`, by its path."""
    found = {}
    for path in sorted(out.rglob("*")):
        inside = path.relative_to(out)
        if path.is_file() and not inside.name.endswith(LEFT_OUT) and "cache" not in inside.parts:
            if inside.parts[0] == "embeddings" and path.suffix == ".json":
                continue  # paths of this machine stand in the manifests
            if inside.parts[0] == "report" and inside.name != "report.json":
                continue
            found[str(inside)] = hashlib.sha256(_timeless(path)).hexdigest()
    return found


def _timeless(path: Path) -> bytes:
    """Return a file's bytes, of a report those without what encoders cost: measured times."""
    data = path.read_bytes()
    if path.name != "report.json":
        return data
    report = json.loads(data)
    report.pop("costs", None)
    return json.dumps(report, sort_keys=True).encode()


def main() -> None:
    """Run the pipelines and print their hashes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "superb")]
    from trees import keyword_spotting

    from mambabench.benchmarks import demo, tasks

    demo.generate(options.out / "demo-tasks")
    pipeline(options.out / "demo", options.out / "demo-tasks", "sound", *DEMO)
    corpus = keyword_spotting(options.out / "corpus")
    tasks.prepare("KS", corpus, options.out / "superb-tasks")
    pipeline(options.out / "superb", options.out / "superb-tasks", "superb")
    if options.data is not None:
        unpack = [sys.executable, str(options.data / "unpack.py")]
        subprocess.run(
            [*unpack, str(options.out / "real-tasks"), *REAL], check=True, stdout=sys.stderr
        )
        pipeline(options.out / "real", options.out / "real-tasks", "ssam2024")
    parts = ("demo", "superb", "real")
    found = {part: hashes(options.out / part) for part in parts if (options.out / part).is_dir()}
    json.dump(found, sys.stdout, indent=1, sort_keys=True)


if __name__ == "__main__":
    main()
