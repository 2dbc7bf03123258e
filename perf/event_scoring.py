"""Score a MAESTRO-like fold with our matcher and with sed_eval, on the same events, in one run.

    python -m venv ENV && ENV/bin/pip install sed_eval==0.2.1 "setuptools<81"
    OMP_NUM_THREADS=1 python perf/event_scoring.py --peer ENV/bin/python

Writes results/performance/event_scoring.json and .md. Times are CPU seconds of one thread; the
scores of both on the leading clips that sed_eval is given (`--clips`, default 4 of 37: it takes
minutes for all) must agree to 1e-9; its time for the whole fold is extrapolated from them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mambabench.benchmarks.metrics import METRICS
from mambabench.benchmarks.metrics.events import Events
from mambabench.benchmarks.metrics.frames import events_from_probabilities
from mambabench.files import atomic_write, write_json

ROOT = Path(__file__).resolve().parent.parent
N_CLIPS, N_EVENTS, N_LABELS, CLIP_S, HOP_MS = 37, 1524, 88, 120.0, 50.0
NAMES = (
    "event_onset_50ms_fms",
    "event_onset_offset_50ms_20perc_fms",
    "event_onset_200ms_fms",
    "segment_1s_er",
)


def fold(rng: np.random.Generator) -> tuple[Events, Events]:
    """Return notes of 37 two-minute clips, and predictions: shifted, missed and invented ones."""
    n = N_CLIPS * N_EVENTS
    clip = np.repeat(np.arange(N_CLIPS), N_EVENTS)
    label = np.clip(rng.normal(44, 14, n), 0, N_LABELS - 1).astype(np.int64)
    start = rng.uniform(0, 1000 * CLIP_S - 3000, n)
    end = start + rng.exponential(400, n) + 50
    reference = Events(N_CLIPS, clip, label, start, np.minimum(end, 1000 * CLIP_S))
    heard = rng.random(n) < 0.7
    invented = rng.random(n) < 0.3
    shift = np.round(rng.normal(0, 40, n) / HOP_MS) * HOP_MS
    predicted = Events(
        N_CLIPS,
        np.concatenate([clip[heard], clip[invented]]),
        np.concatenate([label[heard], rng.integers(0, N_LABELS, invented.sum())]),
        np.maximum(np.concatenate([(start + shift)[heard], start[invented]]), 0.0),
        np.concatenate([(end + shift)[heard], end[invented]]).clip(50, 1000 * CLIP_S),
    )
    return reference, predicted


def timed(function: Callable[[], Any], repeats: int = 9) -> dict[str, float]:
    """Return the median, least and greatest CPU seconds of one call."""
    seconds = []
    for _ in range(repeats):
        began = time.process_time()
        function()
        seconds.append(time.process_time() - began)
    return {"median": statistics.median(seconds), "min": min(seconds), "max": max(seconds)}


def ours(reference: Events, predicted: Events) -> dict[str, Any]:
    """Return scores and times of our metrics, and the time from probabilities to events."""
    result: dict[str, Any] = {"scores": scores(reference, predicted), "cpu_s": {}}
    for name in NAMES:
        metric = METRICS[name]
        result["cpu_s"][name] = timed(lambda m=metric: m.counts(reference, predicted))
    n_frames = round(1000 * CLIP_S / HOP_MS)
    rng = np.random.default_rng(1)
    probability = rng.random((N_CLIPS * n_frames, N_LABELS), dtype=np.float32)
    times = np.tile(np.arange(n_frames) * HOP_MS, N_CLIPS)
    offsets = np.arange(N_CLIPS + 1) * n_frames
    result["cpu_s"]["events_from_probabilities"] = timed(
        lambda: events_from_probabilities(
            probability, times, offsets, median_filter_ms=150, min_duration_ms=50
        ),
        3,
    )
    return result


def leading(events: Events, n_clips: int) -> Events:
    """Return the events of the first clips."""
    keep = events.clip < n_clips
    arrays = (events.clip, events.label, events.start_ms, events.end_ms)
    return Events(n_clips, *(array[keep] for array in arrays))


def scores(reference: Events, predicted: Events) -> dict[str, dict[str, float]]:
    """Return our metrics' sub-results."""
    result = {}
    for name in NAMES:
        parts = METRICS[name].parts(METRICS[name].counts(reference, predicted).sum(axis=0))
        result[name] = {part: float(value) for part, value in parts.items()}
    return result


def theirs(peer: str, reference: Events, predicted: Events) -> dict[str, Any]:
    """Return sed_eval's scores and times of the same events."""
    request = {
        "n_clips": reference.n_clips,
        "metrics": list(NAMES),
        **{
            side: {k: v.tolist() for k, v in asdict(events).items() if k != "n_clips"}
            for side, events in (("reference", reference), ("predicted", predicted))
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "request.json"
        path.write_text(json.dumps(request))
        script = ROOT / "perf" / "sed_eval_peer.py"
        run = subprocess.run([peer, script, path], check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(run.stdout)
    return result


def largest_difference(a: dict[str, Any], b: dict[str, Any]) -> float:
    """Return the largest difference of any sub-result that both give."""
    pairs = [(a[name][part], b[name][part]) for name in NAMES for part in b[name]]
    return max(0.0 if math.isnan(x) and math.isnan(y) else abs(x - y) for x, y in pairs)


def table(result: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    mine = result["mambabench"]["cpu_s"]
    whole = N_CLIPS / result["clips"]
    peer = {name: whole * value for name, value in result["sed_eval"]["cpu_s"].items()}
    lines = [
        "# Event scoring",
        "",
        f"{N_CLIPS} clips of {CLIP_S:g} s with {N_EVENTS} events each, {N_LABELS} labels. CPU "
        "seconds of one thread; ours: median (least to greatest) of nine calls on all clips. "
        f"sed_eval: one call on the first {result['clips']} clips, its time extrapolated to all (a "
        f"clip costs the same wherever it stands). Largest difference of any score on those "
        f"{result['clips']} clips: {result['largest_difference']:.1e}.",
        "",
        f"{result['cpu']}, Python {result['python']}, numpy {result['numpy']}, scipy "
        f"{result['scipy']}, sed_eval {result['sed_eval']['version']}; `{result['command']}`. The "
        "machine was shared with other work.",
        "",
        "| metric | mambabench | sed_eval, extrapolated | ratio |",
        "|---|---|---|---|",
    ]
    for name in NAMES:
        time_s = mine[name]
        spread = f"{time_s['median']:.3f} ({time_s['min']:.3f} to {time_s['max']:.3f})"
        ratio = peer[name] / time_s["median"]
        lines.append(f"| {name} | {spread} | {peer[name]:.1f} | {ratio:,.0f} |")
    total = sum(mine[name]["median"] for name in NAMES)
    all_theirs = sum(peer[name] for name in NAMES)
    lines.append(f"| all four | {total:.3f} | {all_theirs:.1f} | {all_theirs / total:,.0f} |")
    frames = mine["events_from_probabilities"]["median"]
    lines += ["", f"From frame probabilities (50 ms hop) to events: {frames:.2f} s.", ""]
    return "\n".join(lines)


def _write(file: BinaryIO, text: str) -> None:
    file.write(text.encode())


def cpu_name() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    rows = info.read_text().splitlines() if info.exists() else []
    names = [row.partition(":")[2].strip() for row in rows if row.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def main() -> None:
    """Measure and write both files."""
    import scipy

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True, help="python of an environment with sed_eval")
    parser.add_argument("--clips", type=int, default=4, help="clips that sed_eval scores")
    arguments = parser.parse_args()
    reference, predicted = fold(np.random.default_rng(0))
    few = leading(reference, arguments.clips), leading(predicted, arguments.clips)
    result: dict[str, Any] = {
        "schema": "mambabench.performance/1",
        "cpu": cpu_name(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "command": "OMP_NUM_THREADS=1 python perf/event_scoring.py --peer ENV/bin/python",
        "mambabench": ours(reference, predicted),
        "clips": arguments.clips,
        "sed_eval": theirs(arguments.peer, *few),
    }
    difference = largest_difference(scores(*few), result["sed_eval"]["scores"])
    result["largest_difference"] = difference
    folder = ROOT / "results" / "performance"
    write_json(folder / "event_scoring.json", result)
    text = table(result)
    atomic_write(folder / "event_scoring.md", lambda file: _write(file, text))
    print(text)
    if not difference <= 1e-9:
        sys.exit(f"scores differ by {difference}")


if __name__ == "__main__":
    main()
