"""Probe training against hear-eval-kit's own trainer, on the same embeddings.

    python perf/probe.py --install PEER_ENV          once: the kit in an environment of its own
    python perf/probe.py --peer PEER_ENV/bin/python  every measurement, then the tables

Cases: (a) 1200/400/400 rows, 512-d, 50 labels; (b) five folds of 47 rows, 384-d, 4 labels; for the
replay alone (m) mAP of 300/100/100 multilabel rows, (u) AUC of 256/32/288 rows and two labels, (l)
ten labels, stopped on the loss, all 128-d; synthetic, default grid. CPU seconds are of whole
processes, imports and compilation from the cache included, on one thread. Every measurement is kept
in --work, and only missing ones are run; --only NAME runs one. Tables:
results/performance/probe.{json,md}; what --work lacks keeps its row there.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from probe_cases import CASES, TIMED, write_case

ROOT = Path(__file__).resolve().parent.parent
KIT = ["heareval==2021.1.3"]
KIT_NEEDS = [
    *("click", "dcase_util", "sed_eval", "intervaltree", "more-itertools", "numpy", "pandas"),
    *("pynvml", "python-slugify", "soundfile", "torchinfo", "tqdm", "scikit-learn"),
]


def install(folder: Path) -> None:
    """Install hear-eval-kit, which pins packages that no longer install, without its pins."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "pip"), "install"]
    for packages in (
        ["torch==2.13.0"],
        ["pytorch-lightning==1.9.5", "setuptools<81"],
        ["--no-deps", *KIT],
        KIT_NEEDS,
    ):
        subprocess.run([*pip, *packages], check=True)


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def _timed(command: list[str]) -> dict[str, float]:
    """Run a command and return its CPU and wall seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    subprocess.run(command, check=True, env=_environment(), stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_s": cpu, "wall_s": time.monotonic() - started}


def run_kit(name: str, directory: Path, work: Path, peer: str) -> dict[str, Any]:
    """Run the kit's trainer on an embeddings directory and return its record of fits."""
    target = work / f"kit-{name}.json"
    script = ROOT / "perf" / "heareval_peer.py"
    _timed([peer, str(script), str(directory), str(target)])
    record: dict[str, Any] = json.loads(target.read_text())
    return record


def run_ours(case: str, work: Path, *, exact: bool, seeds: int, jobs: int) -> dict[str, Any]:
    """Run the verb on the same directory and return CPU, wall and the epochs trained."""
    out = work / f"ours-{case}-{exact}-{seeds}"
    shutil.rmtree(out, ignore_errors=True)
    write_case(CASES[case], out)
    counts = out / "counts.json"
    command = [sys.executable, str(ROOT / "perf" / "probe_counted.py"), str(counts)]
    command += ["probe", "--layout", "hear-eval-kit"]
    command += ["--protocol", "hear2021", "--seeds", str(seeds), "--jobs", str(jobs)]
    command += ["--device", "cpu", "--out", str(out), *(["--exact"] if exact else [])]
    timing = _timed(command)
    records = [
        json.loads(path.read_text()) for path in sorted(out.glob("probes/*/*/*/seed-???.json"))
    ]
    scores = [record["score"] for record in records]
    trained = json.loads(counts.read_text())
    return {**timing, **trained, "scores": scores, "seeds": seeds, "jobs": jobs}


def embed_real(task: Path, encoder: str, work: Path) -> Path:
    """Write the embeddings of a real task as the kit would; return their folder."""
    command = [sys.executable, "-m", "mambabench", "extract", "--layout", "hear-eval-kit"]
    command += ["--encoder", encoder, "--tasks", str(task), "--out", str(work)]
    _timed(command)
    return work / "embeddings" / encoder / task.name


def run_replay(
    name: str, encoder: str, task: str, work: Path, *, compiled: bool | None
) -> list[dict[str, Any]]:
    """Train the kit's fits again from its recorded states of the generator.

    With `compiled` by the default engine, with None by the one of the exact stream, else by plain
    torch.
    """
    from probe_replay import replay

    record = json.loads((work / f"kit-{name}.json").read_text())
    return [dataclasses.asdict(fit) for fit in replay(work, encoder, task, record, compiled)]


def run_gemm(case: str) -> dict[str, float]:
    """Return the CPU milliseconds of an epoch's matrix products alone, by hidden layers.

    Every product of the training steps, and a third of those of a validation, each in a loop of its
    own.
    """
    import torch

    torch.set_num_threads(1)
    found = dict.fromkeys("12", 0.0)
    for layers in found:
        for a, b, weight in _operands(case, int(layers)):
            out = torch.empty(a.shape[0], b.shape[1])
            times = []
            for _ in range(15):
                started = time.thread_time()
                torch.mm(a, b, out=out)
                times.append(time.thread_time() - started)
            found[layers] += 1000 * weight * statistics.median(times)
    return found


def _operands(case: str, layers: int) -> Iterator[tuple[Any, Any, float]]:
    """Yield the operands of every product of an epoch, oriented as there, and how often it is."""
    from torch import randn

    sizes = CASES[case]
    n_train = sizes.n_per_split.get("train", 3 * 47)
    n_valid = sizes.n_per_split.get("valid", 47)
    widths = [sizes.dim, *[1024] * layers, sizes.n_labels]
    for batch in [min(1024, n_train - i) for i in range(0, n_train, 1024)]:
        wide = -(-batch // 16) * 16
        for i, (fan_in, out) in enumerate(itertools.pairwise(widths)):
            weight, columns, gradient = randn(out, fan_in), randn(fan_in, wide), randn(out, wide)
            yield weight, columns if i < layers else columns[:, :batch], 1.0
            rows = columns[:, :batch].t() if i else randn(batch, fan_in)
            yield gradient[:, :batch], rows, 1.0
            if i:
                yield weight.t(), gradient, 1.0
    wide = -(-n_valid // 16) * 16
    for fan_in, out in itertools.pairwise(widths):
        yield randn(out, fan_in), randn(fan_in, wide), 1 / 3


def run_pairs(work: Path, n_pairs: int) -> dict[str, Any]:
    """Train pairs of heads, compiled and in plain torch, from the same weights and masks.

    Case (a), one layer, lr 3.2e-3. Returns the differences of the test scores, in points.
    """
    import torch
    from probe_replay import stored_task

    from mambabench.probe.data import TaskRows
    from mambabench.probe.fitted import HeadPredictor
    from mambabench.probe.heads.streams import TrialStreams, stream_seed
    from mambabench.probe.plan import ProbePlan
    from mambabench.probe.protocols import HeadConfig, resolve_protocol
    from mambabench.probe.trainer import train

    torch.set_num_threads(1)
    write_case(CASES["a"], work)
    plan = ProbePlan(
        TaskRows(stored_task(work, "synthetic", "case_a-v1-full"), kit=True),
        resolve_protocol("hear2021"),
    )
    fold = plan.rows.folds[0]
    prepared, test = plan.prepared(fold, 1024), plan.rows.test(fold)
    config = HeadConfig(lr=3.2e-3)
    differences, same = [], 0
    for pair in range(n_pairs):
        seed = stream_seed("pairs", pair)
        arms = [
            train(config, prepared, TrialStreams(seed), kit=True, compiled=compiled)
            for compiled in (True, False)
        ]
        scores = [
            float(
                (
                    HeadPredictor(arm.parameters, None, False)(test.embeddings).argmax(1)
                    == test.targets
                ).mean()
            )
            for arm in arms
        ]
        differences.append(100 * (scores[0] - scores[1]))
        same += (arms[0].best_epoch, arms[0].score) == (arms[1].best_epoch, arms[1].score)
        print(f"pair {pair}: {differences[-1]:+.2f} points", flush=True)
    return {"points": differences, "n_pairs": n_pairs, "same_epoch_and_score": same}


def measurements(work: Path, peer: str, real: Path | None) -> dict[str, Callable[[], Any]]:
    """Return every measurement by name, in order."""
    cores = len(os.sched_getaffinity(0))
    named: dict[str, Callable[[], Any]] = {}
    for case in ("b", "m", "u", "l", "a"):
        named[f"kit-{case}"] = lambda c=case: run_kit(c, write_case(CASES[c], work), work, peer)
        for kind in ("replay", "compiled"):
            named[f"{kind}-{case}"] = lambda c=case, k=kind: run_replay(
                c,
                "synthetic",
                f"case_{c}-v1-full",
                work,
                compiled=True if k == "compiled" else None,
            )
    for case in TIMED:
        named[f"gemm-{case}"] = lambda c=case: run_gemm(c)
        for exact in (False, True):
            name = f"ours-{case}-{'exact' if exact else 'default'}"
            named[name] = lambda c=case, e=exact: run_ours(c, work, exact=e, seeds=1, jobs=1)
    named["ours-b-ten"] = lambda: run_ours("b", work, exact=False, seeds=10, jobs=cores)
    if real is not None:
        for encoder in ("logmel_stats", "ssam_tiny_random"):
            name = f"real-{encoder}"
            named[f"kit-{name}"] = lambda n=name, e=encoder: run_kit(
                n, embed_real(real, e, work), work, peer
            )
            for kind in ("replay", "compiled"):
                named[f"{kind}-{name}"] = lambda n=name, e=encoder, k=kind: run_replay(
                    n, e, real.name, work, compiled=True if k == "compiled" else None
                )
    named["pairs"] = lambda: run_pairs(work, 27)
    return named


def main() -> None:
    """Run what is missing and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--install", type=Path)
    parser.add_argument("--peer", default="python")
    parser.add_argument("--work", type=Path, default=Path("perf-probe"))
    parser.add_argument("--real", type=Path, help="a real scene task's directory, to replay too")
    parser.add_argument("--only", action="append")
    parser.add_argument("--tables", action="store_true", help="write the tables, run nothing")
    options = parser.parse_args()
    if options.install is not None:
        install(options.install)
        return
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    if not options.tables:
        for name, measure in measurements(work, options.peer, options.real).items():
            path = work / f"{name}.json"
            if (options.only and name not in options.only) or path.exists():
                continue
            print(f"{name} ...", flush=True)
            path.write_text(json.dumps(measure()))
    from probe_tables import write_tables

    write_tables(work, ROOT / "results" / "performance")


if __name__ == "__main__":
    main()
