"""Measure time and memory of DepMamba against its sequence length, beside a transformer.

    python perf/depmamba.py [--lengths 1000 3000 ... 24000] [--memory-limit-gb 8]

Each measurement runs in a process of its own, so that its peak memory is its own; DepMamba and the
transformers of the same width alternate: torch's own with its fused attention, and the same with
attention written out, which keeps every score. A process may take so much memory beyond its start;
a point that needs more is recorded as stopped. Writes results/performance/depmamba.json, .md and
(with matplotlib) .png; published numbers of the efficiency figure stand beside as reference, on
other hardware.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "results" / "performance"
LENGTHS = (1000, 2000, 3000, 6000, 9000, 12000, 18000, 24000)
WIDTH, HEADS, FFN = 256, 8, 1024
SYSTEMS = ("depmamba", "transformer", "transformer-plain")


def transformer() -> Any:
    """Return the comparator: both streams projected to the width, one post-norm layer on each, one
    on both together, mean over frames, one logit: DepMamba's layout with attention."""
    import torch
    from torch import nn

    class Peer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.audio, self.video = nn.Linear(25, WIDTH), nn.Linear(136, WIDTH)

            def layer(width: int) -> nn.Module:
                return nn.TransformerEncoderLayer(width, HEADS, FFN, batch_first=True)

            self.first, self.second = layer(WIDTH), layer(WIDTH)
            self.both, self.output = layer(2 * WIDTH), nn.Linear(2 * WIDTH, 1)

        def forward(self, x: Any) -> Any:
            video = self.first(self.video(x[..., :136]))
            audio = self.second(self.audio(x[..., 136:]))
            hidden = self.both(torch.cat((audio, video), -1))
            return self.output(hidden.mean(1))

    return Peer()


def limit_memory(extra_gb: float) -> None:
    """Let this process take `extra_gb` of address space beyond what it has now."""
    status = Path("/proc/self/status").read_text()
    now_kb = int(next(line for line in status.splitlines() if "VmSize" in line).split()[1])
    limit = now_kb * 1024 + int(extra_gb * 1e9)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def child(system: str, length: int, mode: str, repeats: int, limit_gb: float) -> dict[str, float]:
    """Measure one point in this process: seconds (CPU and wall, best of repeats) and peak GB."""
    import torch

    from mambabench.models.affect.depmamba import DepMamba, DepMambaConfig

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = DepMamba(DepMambaConfig(dropout=0.0)) if system == "depmamba" else transformer()
    if system == "transformer-plain":
        torch.backends.mha.set_fastpath_enabled(False)
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_mem_efficient_sdp(False)
    model.train(mode == "train")
    x = torch.randn(1, length, 161)
    with torch.set_grad_enabled(mode == "train"):
        model(x[:, :64])  # kernels compiled, buffers of the libraries made
        limit_memory(limit_gb)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        cpu, wall = [], []
        for _ in range(repeats):
            start_cpu, start = time.process_time(), time.perf_counter()
            loss = model(x).sum()
            if mode == "train":
                loss.backward()
            cpu.append(time.process_time() - start_cpu)
            wall.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "cpu_s": min(cpu),
        "wall_s": min(wall),
        "peak_gb": peak * 1024 / 1e9,
        "above_start_gb": (peak - before) * 1024 / 1e9,
    }


def measure(
    lengths: tuple[int, ...],
    mode: str,
    limit_gb: float,
    repeats: int,
    systems: Sequence[str],
    known: list[Any],
    save: Callable[[list[Any]], None],
) -> list[Any]:
    """Run every point in a process of its own, the systems alternating; skip the `known` ones."""
    rows = known
    done_before = {(r["system"], r["length"], r["mode"]) for r in known}
    for length in lengths:
        for system in systems:
            if (system, length, mode) in done_before:
                continue
            row: dict[str, Any] = {"system": system, "length": length, "mode": mode}
            rows.append(row)
            times = 1 if length >= 9000 else repeats
            point = [system, str(length), mode, str(times), str(limit_gb)]
            command = [sys.executable, __file__, "--child", *point]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                short = "memory" in done.stderr or "alloc" in done.stderr.lower()
                row["stopped"] = (
                    f"more than {limit_gb:g} GB" if short else f"exit code {done.returncode}"
                )
                save(rows)
                continue
            row |= json.loads(done.stdout)
            print(row, flush=True)
            save(rows)
    return rows


def published() -> list[dict[str, Any]]:
    """Return the efficiency figure's numbers from results/published, where they are stored."""
    path = ROOT / "results" / "published" / "depmamba.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["benchmark"] == "efficiency"]
    return [{key: row[key] for key in ("task", "metric", "value", "unit", "model")} for row in rows]


def markdown(document: dict[str, Any]) -> str:
    """Return the table as text."""
    lines = [
        "# DepMamba against its sequence length",
        "",
        f"{document['cpu']}, one thread, torch {document['torch']}; one sequence of 161 features, "
        f"published widths; `{document['command']}`; load average {document['load_average']:.1f} "
        "(CPU time, not wall time). Memory is the peak above the process's start.",
        "",
        "| mode | frames | " + " | ".join(f"{s} CPU s | GB" for s in SYSTEMS) + " |",
        "|---|---:|" + "---:|---:|" * len(SYSTEMS),
    ]
    table = {(r["mode"], r["length"], r["system"]): r for r in document["rows"]}
    for mode, length in sorted({(r["mode"], r["length"]) for r in document["rows"]}):
        cells = []
        for system in SYSTEMS:
            row = table.get((mode, length, system), {"stopped": "not measured"})
            if "stopped" in row:
                cells += ["stopped", row["stopped"]]
            else:
                cells += [f"{row['cpu_s']:.2f}", f"{row['above_start_gb']:.2f}"]
        lines.append(f"| {mode} | {length} | " + " | ".join(cells) + " |")
    lines += ["", "Published efficiency figure (GPU, other hardware; for the shape only):", ""]
    for row in document["published"]:
        lines.append(
            f"- {row['model']}, {row['task']}, {row['metric']}: {row['value']} {row['unit']}"
        )
    return "\n".join(lines) + "\n"


def plot(document: dict[str, Any], path: Path) -> None:
    """Draw memory and time against the length; a point that stopped is a cross at the limit."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = [row for row in document["rows"] if row["mode"] == "forward"]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    for axis, key, label in (
        (axes[0], "above_start_gb", "peak memory above start, GB"),
        (axes[1], "cpu_s", "CPU seconds, one thread"),
    ):
        for system, colour in zip(SYSTEMS, ("tab:blue", "tab:orange", "tab:red"), strict=True):
            own = [row for row in rows if row["system"] == system and key in row]
            axis.plot(
                [r["length"] / 1000 for r in own],
                [r[key] for r in own],
                "o-",
                color=colour,
                label=system,
            )
            stopped = [row for row in rows if row["system"] == system and "stopped" in row]
            if stopped and key == "above_start_gb":
                axis.plot(
                    [r["length"] / 1000 for r in stopped],
                    [document["memory_limit_gb"]] * len(stopped),
                    "x",
                    color=colour,
                    label=f"{system}: stopped at {document['memory_limit_gb']:g} GB",
                )
        axis.set_xlabel("thousand frames")
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside upper center", ncols=5)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure, then write the table and the plot."""
    if sys.argv[1:2] == ["--child"]:
        system, length, mode, repeats, limit = sys.argv[2:7]
        print(json.dumps(child(system, int(length), mode, int(repeats), float(limit))))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS))
    parser.add_argument("--train-lengths", type=int, nargs="*", default=[1000, 3000])
    parser.add_argument("--memory-limit-gb", type=float, default=8.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--fresh", action="store_true", help="forget points measured before")
    options = parser.parse_args()
    import torch

    def save(rows: list[Any]) -> None:
        OUT.mkdir(parents=True, exist_ok=True)
        document = describe(rows, options, torch.__version__)
        (OUT / "depmamba.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    rows = stored_rows(options)
    limits = (options.memory_limit_gb, options.repeats, options.systems)
    for lengths, mode in ((options.lengths, "forward"), (options.train_lengths, "train")):
        rows = measure(tuple(lengths), mode, *limits, rows, save)
    save(rows)
    document = describe(rows, options, torch.__version__)
    (OUT / "depmamba.md").write_text(markdown(document), encoding="utf-8")
    try:
        plot(document, OUT / "depmamba.png")
    except ImportError:
        print("no plot: matplotlib is not installed")


def stored_rows(options: argparse.Namespace) -> list[Any]:
    """Return the points that a run cut off has stored with the same limit on the same CPU."""
    path = OUT / "depmamba.json"
    if options.fresh or not path.is_file():
        return []
    document = json.loads(path.read_text(encoding="utf-8"))
    same = (document["cpu"], document["memory_limit_gb"]) == (_cpu(), options.memory_limit_gb)
    return list(document["rows"]) if same else []


def describe(rows: list[Any], options: argparse.Namespace, version: str) -> dict[str, Any]:
    """Return the document that is stored."""
    return {
        "schema": "mambabench.performance/1",
        "command": "python " + " ".join(["perf/depmamba.py", *sys.argv[1:]]),
        "load_average": os.getloadavg()[0],
        "cpu": _cpu(),
        "torch": version,
        "memory_limit_gb": options.memory_limit_gb,
        "repeats": options.repeats,
        "width": WIDTH,
        "rows": rows,
        "published": published(),
    }


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
