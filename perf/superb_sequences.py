"""ASR, SF and SD from generated corpora to a score, by the command line and `--grid faster`.

Trees in the three layouts (a tone for every letter; two readers with tones of their own) are
prepared, extracted with log power in bands (10 ms) and probed as a user would: nothing is set but
the preset. Prints the scores of the unseen test split and the seconds of every verb, with
the load of the machine: CPU seconds are what a verb costs, wall seconds what others left of it.
Rows of tasks that are left out stay as they are in the table.

usage: python perf/superb_sequences.py [--asr-clips 240] [--sf-clips 240] [--sd-clips 160]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "superb")]

import trees  # noqa: E402
from common import markdown  # noqa: E402

from mambabench.provenance import provenance  # noqa: E402
from mambabench.store.records import read_record, record_paths  # noqa: E402

WANTED = {"ASR": "WER < 5 %", "SF": "F1 > .95", "SD": "DER < 2 %"}


def spent() -> float:
    """Return the CPU seconds of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def call(*arguments: object) -> tuple[float, float]:
    """Run a verb; return its wall and CPU seconds."""
    command = [sys.executable, "-m", "mambabench", *map(str, arguments)]
    start, before = time.perf_counter(), spent()
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return time.perf_counter() - start, spent() - before


def row(task: str, n_clips: int, base: Path) -> dict[str, object]:
    name = f"superb_{task.lower()}"
    root = trees.TREES[name](base / "corpus", n_clips)
    encoder = base / "bands.py"
    encoder.write_text(trees.ENCODER)
    call("tasks", "prepare", task, "--data", root, "--to", base / "tasks")
    where = ("--out", base / "out")
    extracted = call("extract", "--tasks", base / "tasks", "--encoder", encoder, *where)
    probed = call(
        *("probe", "--protocol", "superb-clean", "--grid", "faster", "--seeds", 1, "--jobs", 2),
        *where,
    )
    (path,) = record_paths(base / "out")
    (fold,) = read_record(path).folds
    return {
        "task": task,
        "scores": {name: round(score, 4) for name, score in fold.scores.items()},
        "wanted": WANTED[task],
        "n_train": n_clips,
        "n_test": fold.n_test,
        "steps": fold.n_epochs,
        "width": fold.grid_point["width"],
        "learning_rate": fold.grid_point["learning_rate"],
        "extract_s": round(extracted[0], 1),
        "probe_s": round(probed[0], 1),
        "probe_cpu_s": round(probed[1], 1),
        "load": round(os.getloadavg()[1], 1),
        "cpu": provenance()["cpu"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for task, default in (("asr", 240), ("sf", 240), ("sd", 160)):
        parser.add_argument(f"--{task}-clips", type=int, default=default, help="0 leaves it out")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "superb")
    options = vars(parser.parse_args())
    known = options["out"] / "sequences.json"
    kept = json.loads(known.read_text())["rows"] if known.exists() else []
    rows = {one["task"]: one for one in kept}
    for task in WANTED:
        if n_clips := options[f"{task.lower()}_clips"]:
            with tempfile.TemporaryDirectory() as base:
                rows[task] = row(task, n_clips, Path(base))
            print(json.dumps(rows[task]), flush=True)
            write([rows[name] for name in WANTED if name in rows], options["out"])


def write(rows: list[dict[str, object]], out: Path) -> None:
    """Write what is measured so far."""
    body = {"rows": rows, **provenance()}
    out.mkdir(parents=True, exist_ok=True)
    (out / "sequences.json").write_text(json.dumps(body, indent=2) + "\n")
    head = max((list(one) for one in rows), key=len)
    (out / "sequences.md").write_text(
        "# ASR, SF and SD on generated corpora, by the command line\n\n`python "
        "perf/superb_sequences.py`: `probe --protocol superb-clean --grid faster --seeds 1 --jobs "
        "2`, nothing else set. Seconds are those of the whole verb, imports "
        "included; load: processes that wanted the two cores.\n\n"
        + markdown([{key: one.get(key, "") for key in head} for one in rows])
    )


if __name__ == "__main__":
    main()
