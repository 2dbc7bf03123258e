"""Hold the estimates of `--dry-run` against the runs themselves: the demo, and tasks of real audio.

    python perf/dry_run.py [--tasks DIR] [--case WORD]... [--out FILE]

DIR is a folder of tasks as results/real_audio were made from. Estimates come first, each a process
of its own; the run of a case with several numbers of seeds is continued, and its seconds added up.
Seconds are wall time, so the load while one runs and not the other stands in the ratio: it is
printed beside, with the CPU time of the run. Prints Markdown; --out FILE writes it too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STAGES = ("extract", "probe")


@dataclass(frozen=True)
class Case:
    """A run to be told beforehand."""

    name: str
    words: tuple[str, ...]
    seeds: tuple[int, ...] = (1,)
    real: bool = True  # its tasks are of DIR


def case(name: str, task: str, encoder: str, *more: str) -> Case:
    return Case(name, ("--task", task, "--encoder", encoder, *more))


CASES = (
    Case("demo", (), (1, 3, 10), real=False),
    case("ESC-10, sound", "esc50-v2.0.0-esc10", "ssam_tiny_random", "--protocol", "sound"),
    case("ESC-10 mixed, sound", "esc10_mix-v1-full", "logmel_stats", "--protocol", "sound"),
    case("pitch, linear", "instr_pitch-v1-full", "logmel_stats", "--protocol", "linear"),
    case(
        *("emotions limited, hear2021", "emodb-v1-full", "logmel_stats"),
        *("--protocol", "hear2021", "--limit", "20"),
    ),
    case(
        *("wake words limited, ssam2024", "wakeword6-v1-full", "logmel_stats"),
        *("--protocol", "ssam2024", "--limit", "40"),
    ),
)


def mambabench(*words: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "mambabench", "run", *words, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    return dict(json.loads(done.stdout))


def children_s() -> float:
    """Return the CPU seconds of all processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def lines_of(one: Case, tasks: Path | None) -> Iterator[str]:
    words = [*one.words, *(("--tasks", str(tasks)) if one.real else ())]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        words += ["--out", str(out)]
        loads = [os.getloadavg()[0]]
        guesses = {}
        for seeds in one.seeds:
            before = children_s()
            dry = mambabench(*words, "--seeds", str(seeds), "--dry-run")
            guesses[seeds] = dry["estimates"], children_s() - before
            loads.append(os.getloadavg()[0])
        spent = dict.fromkeys(STAGES, 0.0)
        before = children_s()
        for seeds in one.seeds:
            real = mambabench(*words, "--seeds", str(seeds))
            for stage in STAGES:
                spent[stage] += real["seconds"][stage]
            loads.append(os.getloadavg()[0])
            rows, dry_s = guesses[seeds]
            cells = [f"{one.name}, {seeds} seed{'s'[: seeds > 1]}"]
            for stage in STAGES:
                guess = sum(row["seconds"] or 0.0 for row in rows if row["stage"] == stage)
                cells.append(f"{guess:.0f} / {spent[stage]:.0f} = {guess / spent[stage]:.2f}")
            cells += [f"{dry_s:.0f}", f"{children_s() - before:.0f}"]
            yield f"| {' | '.join(cells)} | {', '.join(f'{load:.1f}' for load in loads)} |"
        disk = sum(row["disk_bytes"] for row in rows if row["stage"] == "extract")
        stored = sum(path.stat().st_size for path in (out / "embeddings").rglob("*.npy"))
        yield f"| {one.name}, disk | {disk / stored:.2f} | | | | |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=Path, help="folder of tasks; without it the demo alone")
    parser.add_argument("--case", action="append", help="only those whose name has this word")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    chosen = [
        one
        for one in CASES
        if (asked.tasks or not one.real)
        and (not asked.case or any(word in one.name for word in asked.case))
    ]
    text = (
        "| run | extract: estimated / real, s | probe: estimated / real, s | CPU s of the dry run "
        "| CPU s of the run | load before, between, after |\n|---|---|---|---|---|---|\n"
    )
    print(text, end="")
    for one in chosen:
        for line in lines_of(one, asked.tasks):
            print(line, flush=True)
            text += f"{line}\n"
    if asked.out:
        asked.out.write_text(text)


if __name__ == "__main__":
    main()
