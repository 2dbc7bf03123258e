"""Hold the estimates of `--dry-run` against the run itself: demo tasks, and tasks that are given.

    python perf/dry_run.py [--tasks DIR] [--task NAME]... [--encoder E]... [--seeds N]

Each is a process of its own on the same machine, the estimate first; seconds are wall time, so the
load while one runs and not the other stands in the ratio. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path


def mambabench(*words: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "mambabench", *words, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=Path, help="folder of tasks; without it the demo")
    parser.add_argument("--task", action="append", default=[])
    parser.add_argument("--encoder", action="append", default=[])
    parser.add_argument("--seeds", default="10")
    asked = parser.parse_args()
    words = ["--seeds", asked.seeds]
    words += ["--tasks", str(asked.tasks)] if asked.tasks else []
    for name in ("task", "encoder"):
        words += [part for one in getattr(asked, name) for part in (f"--{name}", one)]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        load = [os.getloadavg()[0]]
        dry = mambabench("run", *words, "--out", str(out), "--dry-run")
        load.append(os.getloadavg()[0])
        real = mambabench("run", *words, "--out", str(out))
        load.append(os.getloadavg()[0])
        stored = [path.stat().st_size for path in (out / "embeddings").rglob("*.npy")]
    rows = dry["estimates"]
    assert isinstance(rows, list)
    seconds = real["seconds"]
    assert isinstance(seconds, dict)
    print("| what | estimated | real | estimated / real |\n|---|---|---|---|")
    for stage in ("extract", "probe"):
        guess = sum(row["seconds"] or 0.0 for row in rows if row["stage"] == stage)
        print(f"| {stage}, s | {guess:.1f} | {seconds[stage]:.1f} | {guess / seconds[stage]:.2f} |")
    disk = sum(row["disk_bytes"] for row in rows if row["stage"] == "extract")
    real_disk = sum(stored)
    print(f"| embeddings, MB | {disk / 1e6:.2f} | {real_disk / 1e6:.2f} | {disk / real_disk:.2f} |")
    print(f"\nLoad before, between and after: {', '.join(f'{one:.1f}' for one in load)}.")


if __name__ == "__main__":
    main()
