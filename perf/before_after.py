"""Compare two states of the code in one run: the same commands by turns, ratio of CPU times.

Usage: ``python perf/before_after.py COMMIT [--rounds 5] [--jobs N]... [--verb V]...``; writes
``results/scale/local.json`` and ``local.md``. COMMIT is checked out beside; both run from their own
tree with this interpreter's packages, `extract` and `probe` on the demo in fresh folders. CPU time
is that of the command and of its workers.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import machine

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "scale"
COMMAND = "import sys; sys.path.insert(0, sys.argv.pop(1)); from mambabench.cli import main; main()"


def cpu_s(tree: Path, words: list[str]) -> float:
    """Run a command from a tree; return the CPU seconds of it and its workers."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", COMMAND, str(tree), *words],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tree)},
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Take turns, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, action="append")
    parser.add_argument("--verb", action="append", choices=("extract", "probe"))
    options = parser.parse_args()
    verbs = {"extract": [], "probe": ["--seeds", "2"]}
    if options.verb:
        verbs = {verb: more for verb, more in verbs.items() if verb in options.verb}
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        old = Path(name) / "old"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "-q", "--detach", str(old), options.commit], check=True)
        try:
            trees = {"before": old, "now": ROOT}
            for jobs in options.jobs or (1, 2):
                times: dict[tuple[str, str], list[float]] = {}
                for i in range(options.rounds + 1):
                    for state, tree in trees.items():
                        out = ["--out", str(Path(name) / f"{state}-{jobs}-{i}")]
                        for verb, more in verbs.items():
                            used = cpu_s(tree, [verb, *more, "--jobs", str(jobs), *out])
                            if i:  # the first round warms caches
                                times.setdefault((verb, state), []).append(used)
                for verb in verbs:
                    old_s, new_s = (statistics.median(times[verb, s]) for s in trees)
                    ratios = [a / b for a, b in zip(times[verb, "now"], times[verb, "before"],
                                                    strict=True)]  # fmt: skip
                    found[f"{verb} --jobs {jobs}"] = {
                        "before_s": round(old_s, 2), "now_s": round(new_s, 2),
                        "ratio": round(statistics.median(ratios), 3),
                        "least": round(min(ratios), 3), "most": round(max(ratios), 3),
                    }  # fmt: skip
                    print(verb, jobs, found[f"{verb} --jobs {jobs}"], flush=True)
        finally:
            subprocess.run([*git, "remove", "--force", str(old)], check=True)
    body = {"machine": machine(), "before": options.commit, "rounds": options.rounds, "rows": found}
    (RESULTS / "local.json").write_text(json.dumps(body, indent=2, sort_keys=True) + "\n")
    lines = [
        "# The local engine before and after engines", "",
        f"Made by `python perf/before_after.py {options.commit}`: the demo, CPU seconds of command "
        f"and workers, medians of {options.rounds} rounds taken by turns.", "",
        "| command | before, s | now, s | ratio | least and most of a round |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| `{name}` | {row['before_s']} | {row['now_s']} | {row['ratio']} | {row['least']} to "
        f"{row['most']} |"
        for name, row in found.items()
    ]
    (RESULTS / "local.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
