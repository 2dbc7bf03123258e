"""Measure what extraction adds to an encoder's own forward time, its memory and its files.

    python perf/extract.py [--rounds N] [--clips N N] [--out results/performance]

Overhead: one process, one thread. In each round the forward passes alone (audio already in memory,
the batches of the plan) and the whole extraction (headers, decoding, encoding, committing, sealing)
follow each other; the ratio of their CPU times is what is reported, since it does not depend on
what else the machine does. Memory: peak resident size of the command in a process of its own, for a
small and a large corpus. The encoder is loaded before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parent.parent
RATE_HZ = 16000


def make_task(directory: Path, n_clips: int, seconds: float, *, n_files: int) -> Path:
    """Write a scene task of noise; beyond `n_files` per split, clips are links to the first."""
    rng = np.random.default_rng(0)
    shares = {"train": n_clips // 2, "valid": n_clips // 4, "test": n_clips - 3 * n_clips // 4}
    for split, n in shares.items():
        folder = directory / str(RATE_HZ) / split
        folder.mkdir(parents=True)
        entries = {}
        for i in range(n):
            name = f"{split}{i:06d}.wav"
            entries[name] = [i % 2]
            if i < n_files:
                audio = 0.1 * rng.standard_normal(int(seconds * RATE_HZ))
                soundfile.write(folder / name, audio, RATE_HZ)
            else:
                os.link(folder / f"{split}{i % n_files:06d}.wav", folder / name)
        (directory / f"{split}.json").write_text(json.dumps(entries))
    metadata = {
        "task_name": "noise",
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "trainvaltest",
        "splits": list(shares),
        "sample_duration": seconds,
        "evaluation": ["top1_acc"],
    }
    (directory / "task_metadata.json").write_text(json.dumps(metadata))
    (directory / "labelvocabulary.csv").write_text("idx,label\n0,0\n1,1\n")
    return directory


def forward_alone(encoder: Any, task: Any, spec: Any) -> float:
    """Return the CPU seconds of the forward passes over the plan's batches."""
    import torch

    from mambabench.extract.audio import decode
    from mambabench.extract.plan import plan_task
    from mambabench.extract.verb import BUDGETS

    plan = plan_task(task, spec, BUDGETS["cpu"])
    batches = [
        torch.from_numpy(np.stack([decode(Path(c.path), RATE_HZ).samples for c in batch]))
        for shard in plan.shards
        for batch in shard.batches()
    ]
    start = time.process_time()
    for batch in batches:
        encoder.scene(batch, None)
    return time.process_time() - start


def whole_extraction(encoder: Any, task: Any, spec: Any, out: Path) -> float:
    """Return the CPU seconds from the headers to the sealed store, the encoder being loaded."""
    from mambabench.extract import unit
    from mambabench.extract.encode import BatchLimit
    from mambabench.extract.plan import plan_task
    from mambabench.extract.verb import BUDGETS
    from mambabench.store import seal
    from mambabench.store.plan import pooling_of

    unit._loaded[(spec.encoder, spec.device, spec.precision)] = encoder, BatchLimit()
    start = time.process_time()
    plan = plan_task(task, spec, BUDGETS["cpu"])
    seal.claim(out, plan)
    for shard in plan.shards:
        unit.encode_unit(unit.make_unit(out, pooling_of(task), spec, shard), lambda report: None)
    seal.seal(out, plan, dict(encoder.configuration), {"run": {}})
    return time.process_time() - start


def overhead(name: str, seconds: float, n_clips: int, rounds: int) -> dict[str, Any]:
    """Return CPU times of forward and extraction, interleaved, and the median of their ratios."""
    from mambabench.benchmarks.layout.read import load_task
    from mambabench.models.registry import load_encoder
    from mambabench.store.plan import EncoderSpec

    encoder = load_encoder(name, device="cpu")
    spec = EncoderSpec(
        encoder=name,
        label=encoder.label,
        identity=encoder.identity,
        sample_rate_hz=encoder.sample_rate_hz,
        scene_embedding_size=encoder.scene_embedding_size,
        timestamp_embedding_size=encoder.timestamp_embedding_size,
        layers=None,
        precision="fp32",
        device="cpu",
    )
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        task = load_task(make_task(Path(folder) / "noise-v1", n_clips, seconds, n_files=10**9))
        forward_alone(encoder, task, spec)  # compiles kernels
        for i in range(rounds):
            alone = forward_alone(encoder, task, spec)
            pairs.append((alone, whole_extraction(encoder, task, spec, Path(folder) / f"out{i}")))
        sealed = Path(folder) / "out0"
        n_files = sum(1 for path in sealed.rglob("*") if path.is_file())
    ratios = [whole / alone for alone, whole in pairs]
    return {
        "encoder": name,
        "clip_s": seconds,
        "n_clips": n_clips,
        "forward_cpu_s": [round(a, 3) for a, _ in pairs],
        "extract_cpu_s": [round(w, 3) for _, w in pairs],
        "ratio_median": round(statistics.median(ratios), 4),
        "ratio_min": round(min(ratios), 4),
        "ratio_max": round(max(ratios), 4),
        "files_of_3_splits": n_files,
    }


def memory(name: str, n_clips: int) -> dict[str, Any]:
    """Return peak memory of the command on `n_clips` clips of 1 s, and its files."""
    with tempfile.TemporaryDirectory() as folder:
        task = make_task(Path(folder) / "noise-v1", n_clips, 1.0, n_files=50)
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "mambabench", "extract", "--encoder", name, "--tasks"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        start = time.perf_counter()
        process = subprocess.Popen(
            [*command, str(task), "--out", str(out), "--jobs", "1"],
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{command} ended with {process.returncode}")
        files = [path for path in (out / "embeddings").rglob("*") if path.is_file()]
        return {
            "encoder": name,
            "n_clips": n_clips,
            "peak_mib": round(usage.ru_maxrss / 1024, 1),
            "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
            "wall_s": round(time.perf_counter() - start, 1),
            "files_of_3_splits": len(files),
        }


def table(result: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = [
        "# Extraction: overhead, memory, files",
        "",
        f"`python perf/extract.py` on {result['provenance']['cpu']}, one thread; "
        f"torch {result['provenance']['versions']['torch']}, commit "
        f"{str(result['provenance']['git_commit'])[:10]}. CPU seconds; forward and extraction "
        "interleaved; ratio: median (least to most).",
        "",
        "| encoder | clips | forward alone | extraction | ratio | files (3 splits) |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["overhead"]:
        lines.append(
            f"| {row['encoder']} | {row['n_clips']} x {row['clip_s']:g} s "
            f"| {statistics.median(row['forward_cpu_s']):.2f} "
            f"| {statistics.median(row['extract_cpu_s']):.2f} "
            f"| {row['ratio_median']:.3f} ({row['ratio_min']:.3f} to {row['ratio_max']:.3f}) "
            f"| {row['files_of_3_splits']} |"
        )
    lines += ["", "| encoder | clips of 1 s | peak memory, MiB | CPU s | files (3 splits) |"]
    lines += ["|---|---|---|---|---|"]
    for row in result["memory"]:
        lines.append(
            f"| {row['encoder']} | {row['n_clips']} | {row['peak_mib']} | {row['cpu_s']} "
            f"| {row['files_of_3_splits']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the tables."""
    import torch

    from mambabench.provenance import provenance

    parser = argparse.ArgumentParser()
    parser.add_argument("--encoder", default="ssam_tiny_random")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, nargs=2, default=(200, 20000))
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "performance")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "overhead": [
            overhead(arguments.encoder, 1.0, 160, arguments.rounds),
            overhead(arguments.encoder, 5.0, 40, arguments.rounds),
        ],
        "memory": [memory("logmel_stats", n) for n in arguments.clips],
        "provenance": provenance(),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "extract.json").write_text(json.dumps(result, indent=2) + "\n")
    (arguments.out / "extract.md").write_text(table(result))
    print(table(result))


if __name__ == "__main__":
    main()
