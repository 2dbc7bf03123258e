"""What the measurements share: interleaved rounds in CPU time, the machine, tables."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

__all__ = ["RESULTS", "Timing", "geometric_mean", "machine", "markdown", "rounds", "write"]

RESULTS = Path(__file__).resolve().parent.parent / "results/performance"


@dataclass(frozen=True)
class Timing:
    """CPU times of one candidate in the rounds of one run."""

    median_ms: float
    least_ms: float
    spread: float  # (third quartile - first quartile) / median

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        """Summarise times in seconds."""
        low, middle, high = (
            statistics.quantiles(seconds, n=4) if len(seconds) > 1 else [seconds[0]] * 3
        )
        return cls(1e3 * middle, 1e3 * min(seconds), (high - low) / middle if middle else 0.0)


def rounds(
    candidates: Mapping[str, Callable[[], Any]], n_rounds: int, budget_s: float = 60.0
) -> dict[str, Timing]:
    """Time the candidates in turns, in CPU time of this thread.

    A turn is as many calls as take about 20 ms, after one that warms the caches again. A warm-up
    round first. Slow candidates drop out after three timed rounds once the budget is
    used; other load on the machine then hits all alike.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    repeats = dict.fromkeys(candidates, 1)
    begun = time.monotonic()
    for i in range(n_rounds + 1):
        for name, call in candidates.items():
            late = time.monotonic() - begun > budget_s
            if late and len(times[name]) >= 3 and statistics.median(times[name]) > 0.02:
                continue
            if i and repeats[name] > 1:
                call()
            start = time.thread_time()
            for _ in range(repeats[name] if i else 1):
                call()
            elapsed = time.thread_time() - start
            if i or elapsed > 5:
                times[name].append(elapsed / (repeats[name] if i else 1))
            if i == 0:
                call_s = max(_timed(call), 1e-6) if elapsed < 0.02 else elapsed
                repeats[name] = max(1, min(1000, round(0.02 / call_s)))
    return {name: Timing.of(found) for name, found in times.items()}


def _timed(call: Callable[[], Any]) -> float:
    start = time.thread_time()
    call()
    return time.thread_time() - start


def machine() -> dict[str, Any]:
    """Return processor, versions and load, for the head of a table."""
    cpu = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    flags = torch.backends.cpu.get_cpu_capability()
    found: dict[str, Any] = {
        "cpu": f"{cpu}, {flags}", "threads": torch.get_num_threads(),
        "load": Path("/proc/loadavg").read_text().split()[0],
        "python": platform.python_version(),
    }  # fmt: skip
    for package in ("torch", "numba", "triton", "transformers", "mambapy", "mamba_ssm"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean."""
    return statistics.geometric_mean(values)


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows (of equal keys) as a table."""
    if not rows:
        return ""
    keys = list(rows[0])
    lines = [keys, ["---"] * len(keys), *([_shown(row.get(k, "")) for k in keys] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {score}" for name, score in value.items())
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write(name: str, command: str, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Store tables as results/performance/NAME.json and .md, and print the latter."""
    head = machine()
    RESULTS.mkdir(parents=True, exist_ok=True)
    content = {"command": command, "machine": head, "tables": tables}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    text = f"Command: `{command}`\n\nMachine: " + ", ".join(f"{k} {v}" for k, v in head.items())
    text += (
        ".\nTimes: CPU time of one thread, medians of interleaved rounds; spread is the "
        "interquartile range over the median.\n"
    )
    for title, rows in tables.items():
        text += f"\n### {title}\n\n{markdown(rows)}"
    (RESULTS / f"{name}.md").write_text(text)
    print(text)
