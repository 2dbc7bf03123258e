"""Time `mambabench report` on 33 encoders x HEAR's 20 directories x 10 seeds, cold and warm.

    python perf/report.py [--encoders 33] [--seeds 10] [--work DIR] [--results DIR]

Predictions are made up, on HEAR's own numbers of test clips and labels; FSD50K and Vocal
Imitations keep their labels but a tenth of their clips, to keep the made-up predictions below
2 GB, and one encoder is timed beside them on FSD50K's own size. Cold: no folder of a report. Warm:
nothing has changed since, so that the report is told again from what it kept. Each run is a process
of its own: start, imports and output count, those of its workers too.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mambabench.files import sha256_file, write_json
from mambabench.store.records import FoldResult, RunRecord, record_bytes, record_stem

# directory: (folds, test clips a fold, labels, metric, multilabel)
TASKS = {
    "beehive_states_fold0-v2-full": (1, 288, 2, "aucroc", False),
    "beehive_states_fold1-v2-full": (1, 288, 2, "aucroc", False),
    "beijing_opera-v1.0-hear2021-full": (5, 47, 4, "top1_acc", False),
    "tfds_crema_d-1.0.0-full": (5, 1487, 6, "top1_acc", False),
    "dcase2016_task2-hear2021-full": (1, 14, 11, "event_onset_200ms_fms", False),
    "esc50-v2.0.0-full": (5, 400, 50, "top1_acc", False),
    "fsd50k-v1.0-full": (1, 1023, 200, "mAP", True),
    "tfds_gtzan-1.0.0-full": (10, 100, 10, "top1_acc", False),
    "tfds_gtzan_music_speech-1.0.0-full": (10, 12, 2, "top1_acc", False),
    "gunshot_triangulation-v1.0-full": (7, 12, 4, "top1_acc", False),
    "libricount-v1.0.0-hear2021-full": (5, 1144, 11, "top1_acc", False),
    "maestro-v3.0.0-5h": (5, 37, 88, "event_onset_50ms_fms", False),
    "mridangam_stroke-v1.5-full": (5, 1395, 10, "top1_acc", False),
    "mridangam_tonic-v1.5-full": (5, 1395, 6, "top1_acc", False),
    "nsynth_pitch-v2.2.3-50h": (1, 5000, 88, "pitch_acc", False),
    "nsynth_pitch-v2.2.3-5h": (1, 500, 88, "pitch_acc", False),
    "speech_commands-v0.0.2-5h": (1, 4890, 12, "top1_acc", False),
    "speech_commands-v0.0.2-full": (1, 10000, 12, "top1_acc", False),
    "vocal_imitation-v1.1.3-full": (3, 187, 302, "mAP", False),
    "vox_lingua_top10-hear2021-full": (5, 194, 10, "top1_acc", False),
}
FSD50K = {"fsd50k-v1.0-full": (1, 10231, 200, "mAP", True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--encoders", type=int, default=33)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--work", type=Path, help="folder for made-up results; kept")
    parser.add_argument("--results", type=Path, default=Path("results/performance"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        made = work / "out"
        if not made.is_dir():
            for encoder in range(options.encoders):
                for seed in range(options.seeds):
                    write_runs(made, TASKS, encoder, seed)
        one = work / "fsd50k"
        if not one.is_dir():
            for seed in range(options.seeds):
                write_runs(one, FSD50K, 0, seed)
        for folder in (made, one):
            shutil.rmtree(folder / "report", ignore_errors=True)
        cold = timed(made)
        warm = [timed(made) for _ in range(3)]
        facts = {
            "command": f"python perf/report.py --encoders {options.encoders} "
            f"--seeds {options.seeds}",
            "encoders": options.encoders,
            "task_directories": len(TASKS),
            "seeds": options.seeds,
            "pairs": options.encoders * (options.encoders - 1) // 2,
            "cold": cold,
            "warm": middle(warm),
            "warm_runs": warm,
            "fsd50k_full_size_one_encoder_cold": timed(one),
            "fsd50k_full_size_one_encoder_warm": timed(one),
            "machine": machine(),
        }
    write_json(options.results / "report.json", facts)
    (options.results / "report.md").write_text(table(facts), encoding="utf-8")
    print(table(facts))


def write_runs(
    out: Path, tasks: dict[str, tuple[int, int, int, str, bool]], encoder: int, seed: int
) -> None:
    """Write the records of one encoder and seed, without syncing each file to disk."""
    for number, (task, (n_folds, n, n_labels, metric, multilabel)) in enumerate(tasks.items()):
        rng = np.random.default_rng([encoder, seed, number])
        arrays, scores = {}, []
        for fold in range(n_folds):
            name = f"fold{fold:02d}" if n_folds > 1 else "test"
            shared = np.random.default_rng([number, fold])
            make = events if metric.startswith("event") else scenes
            own, score = make(rng, shared, n, n_labels, metric, multilabel, encoder / 40)
            arrays |= {f"{name}/{key}": value for key, value in own.items()}
            scores.append(FoldResult(name, {metric: score}, {"lr": 1e-4}, 0.5, 9, 30, n, None))
        label = f"encoder_{encoder:02d}"
        record = RunRecord(
            encoder=label,
            encoder_identity=f"{encoder:064x}",
            task=task,
            protocol="hear2021",
            seed=seed,
            layers=None,
            metric=metric,
            higher_is_better=True,
            n_labels=n_labels,
            folds=tuple(scores),
            score=float(np.mean([fold.scores[metric] for fold in scores])),
            reason=None,
        )
        stem = record_stem(out, label, task, "hear2021", seed)
        stem.parent.mkdir(parents=True, exist_ok=True)
        np.savez(stem.with_suffix(".npz"), **arrays)
        data = record_bytes(record, sha256_file(stem.with_suffix(".npz")))
        stem.with_suffix(".json").write_bytes(data)


def scenes(rng, shared, n, n_labels, metric, multilabel, skill):  # type: ignore[no-untyped-def]
    """Return one fold's arrays and score; clips are as hard for every encoder."""
    from mambabench.benchmarks.metrics import METRICS

    if multilabel:
        target = (shared.random((n, n_labels)) < 0.02).astype(np.uint8)
        target[np.arange(n), np.arange(n) % n_labels] = 1
        hot = target.astype(np.float32)
    else:
        target = np.arange(n) % n_labels
        hot = np.eye(n_labels, dtype=np.float32)[target]
    noise = shared.standard_normal((n, n_labels), np.float32)
    noise += 0.5 * rng.standard_normal((n, n_labels), np.float32)
    probability = 1 / (1 + np.exp(-(noise + (2 + skill) * hot)))
    names = np.array([f"clip{i:06d}.wav" for i in range(n)])
    arrays = {"clip": names, "cluster": np.full(n, ""), "target": target}
    arrays["probability"] = probability.astype(np.float32)
    return arrays, METRICS[metric](target, arrays["probability"])


def events(rng, shared, n, n_labels, metric, multilabel, skill):  # type: ignore[no-untyped-def]
    """Return one fold's counts of matched, reference and predicted events, and its score."""
    from mambabench.benchmarks.metrics import METRICS

    chance = 1 / (1 + np.exp(-(shared.standard_normal(n) * 0.5 + skill)))
    matched = rng.binomial(40, chance).astype(float)
    counts = np.stack([matched, np.full(n, 40.0), matched + rng.poisson(10, n)], axis=1)
    names = np.array([f"clip{i:06d}.wav" for i in range(n)])
    arrays = {"clip": names, "cluster": np.full(n, ""), f"counts:{metric}": counts}
    return arrays, float(METRICS[metric].score(counts.sum(axis=0)))


def timed(out: Path) -> dict[str, float]:
    """Run the command once: wall and CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "mambabench", "report", "--out", str(out), "--format", "json"],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": str(os.cpu_count())},
    )
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak = after.ru_maxrss / 1000  # of the largest process of all so far
    return {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2), "largest_process_mb": round(peak)}


def middle(runs: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure."""
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def machine() -> dict[str, str | int | float | None]:
    """Return what the timings ran on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(": ")[2]
            break
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "load_average": round(os.getloadavg()[1], 1),
    }


def table(facts: dict) -> str:  # type: ignore[type-arg]
    """Return the results as Markdown."""
    rows = [
        ("all, cold (no cache, plots drawn)", facts["cold"]),
        ("all, warm (nothing has changed), median of 3", facts["warm"]),
        ("one encoder, FSD50K at full size, cold", facts["fsd50k_full_size_one_encoder_cold"]),
        ("one encoder, FSD50K at full size, warm", facts["fsd50k_full_size_one_encoder_warm"]),
    ]
    lines = "".join(f"| {name} | {t['wall_s']:.2f} | {t['cpu_s']:.2f} |\n" for name, t in rows)
    own = facts["machine"]
    return (
        "# Report: time of `mambabench report --format json`\n\n"
        f"{facts['encoders']} encoders x {facts['task_directories']} task directories x "
        f"{facts['seeds']} seeds, {facts['pairs']} pairs of encoders a task; made-up predictions "
        "on HEAR's numbers of clips and labels (FSD50K and Vocal Imitations with a tenth of their "
        "clips).\n\n| run | wall s | CPU s |\n|---|---|---|\n"
        f"{lines}\nThe largest process of the cold run took "
        f"{facts['cold']['largest_process_mb']:.0f} MB. {own['cpu']}, "
        f"{own['cores']} cores; Python {own['python']}, NumPy {own['numpy']}; load "
        f"average {own['load_average']} (above the number of cores, wall times are not "
        f"this program's: read the CPU times). Made by `{facts['command']}`.\n"
    )


if __name__ == "__main__":
    main()
