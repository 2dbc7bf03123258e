"""Time `mambabench.evaluate_encoder` as inside a training loop: first checkpoint, next, the same.

    python perf/evaluate_encoder.py TASK TASK [--results DIR]

A log-mel sized network, protocol `linear`. Wall-clock and processor seconds of this process, for a
machine with other work says little by its clock: there `chrt -f 1` gives it a core to itself.
Writes results/performance/evaluate_encoder.json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import torch

import mambabench
from mambabench.provenance import provenance

ROOT = Path(__file__).resolve().parent.parent


class Net(torch.nn.Module):
    """Mean and deviation over time of 64 learned bands: 128 values a clip."""

    sample_rate = 16000

    def __init__(self) -> None:
        super().__init__()
        self.bands = torch.nn.Parameter(torch.rand(257, 64, generator=torch.manual_seed(0)))

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        window = torch.hann_window(512)
        power = torch.stft(audio, 512, 160, window=window, return_complex=True).abs().square()
        rows = (power.transpose(1, 2) @ self.bands + 1e-6).log()
        return torch.cat([rows.mean(1), rows.std(1)], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tasks", nargs="+", type=Path)
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "performance")
    options = parser.parse_args()
    net = Net()
    rows = []
    for what in ("first checkpoint", "next checkpoint", "the same once more"):
        if what == "next checkpoint":
            with torch.no_grad():
                net.bands += 0.1
        wall, used = time.perf_counter(), time.process_time()
        table = mambabench.evaluate_encoder(net, options.tasks, scene=net, protocol="linear")
        wall, used = time.perf_counter() - wall, time.process_time() - used
        rows.append((what, round(wall, 1), round(used, 1), round(float(table["score"].mean()), 4)))
        print(rows[-1], flush=True)
    machine = provenance()
    head = ("what", "wall s", "processor s", "mean score")
    names = ", ".join(sorted(set(table["task"])))
    load = os.getloadavg()[0]
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "evaluate_encoder.json").write_text(
        json.dumps(
            {"columns": head, "rows": rows, "tasks": names, "load": load, **machine}, indent=2
        )
        + "\n"
    )
    lines = [" | ".join(map(str, row)) for row in (head, ["---"] * len(head), *rows)]
    (options.results / "evaluate_encoder.md").write_text(
        "# An encoder in memory\n\n`perf/evaluate_encoder.py`, protocol `linear`, tasks "
        f"{names}; {machine['cpu']}, {machine['cores']} cores, load average {load:.1f} at the end"
        f"{', ahead of all other work (chrt -f)' if os.sched_getscheduler(0) else ''}, "
        f"commit {machine['git_commit']}.\n\n" + "\n".join(f"| {line} |" for line in lines) + "\n"
    )


if __name__ == "__main__":
    main()
