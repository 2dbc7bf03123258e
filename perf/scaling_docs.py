"""Run the commands of docs/scaling.md as they are written, against a cluster on this machine.

Usage: ``python perf/scaling_docs.py``; writes ``results/scale/docs.md``. Every block of shell is
run line by line in one folder that holds a task; left out are installations, and what needs
another machine or a scheduler. No other Ray may run here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from signals import RESULTS, make_task

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = ("pip install", "--engine slurm:partition")


def blocks(text: str) -> list[list[str]]:
    """Return the commands of every block of shell, without what is explained beside them."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        lines = [line.split("  #")[0].strip() for line in block.replace("\\\n", " ").splitlines()]
        found.append([line for line in lines if line and not line.startswith("#")])
    return found


def main() -> None:
    """Run, tell, write the table."""
    text = (ROOT / "docs" / "scaling.md").read_text()
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    lines = [
        "# The commands of docs/scaling.md, as written", "",
        "Made by `python perf/scaling_docs.py`: on one machine, in a folder with a small task.", "",
        "| command | exit code | seconds | its last line |", "|---|---|---|---|",
    ]  # fmt: skip
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        make_task(Path(name) / "path" / "to" / "tasks" / "noise-v1-test")
        for command in [one for block in blocks(text) for one in block]:
            if any(part in command for part in LEFT_OUT):
                continue
            begun = time.monotonic()
            done = subprocess.run(
                ["bash", "-c", command], cwd=name, env=environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900,
            )  # fmt: skip
            said = [line for line in done.stdout.splitlines() if line.strip()] or [""]
            last = said[-1].strip().replace("|", " ").replace(name, "...")[:80]
            wrong += bool(done.returncode)
            lines.append(
                f"| `{command}` | {done.returncode} | {time.monotonic() - begun:.0f} | {last} |"
            )
            print(lines[-1], flush=True)
            if done.returncode:
                print(done.stdout[-3000:], flush=True)
    (RESULTS / "docs.md").write_text("\n".join(lines) + "\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
