"""SUPERB's heads on real audio: speakers and digits as SID and KS, emotional speech as ASV.

SID and KS: `superb`'s weighted-sum head on time means of all layers; fold 0 tests, fold 1 selects
the learning rate, the others train. ASV: x-vectors on log-mel frames (80 bands, 10 ms, outer
silence cut, each band standardised on the training speakers), trained on six speakers of
emodb_speaker, tested on all pairs of clips of the other four, who are two men and two women.

usage: python perf/superb_real.py TASKS [--encoder ssam_tiny_random] [--seeds 2]
  TASKS  folder that unpack.py of the test data wrote
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mambabench.benchmarks.layout.read import load_task  # noqa: E402
from mambabench.benchmarks.metrics.eer import equal_error_rate  # noqa: E402
from mambabench.benchmarks.task import clip_path  # noqa: E402
from mambabench.extract.audio import decode  # noqa: E402
from mambabench.models.encoders.frontends import SsamLogMel  # noqa: E402
from mambabench.models.registry import load_encoder  # noqa: E402
from mambabench.probe.families.recipes import LEARNING_RATES  # noqa: E402
from mambabench.probe.frame_training import FrameSettings  # noqa: E402
from mambabench.probe.heads import frame_heads as fh  # noqa: E402
from mambabench.probe.heads import weighted_sum as ws  # noqa: E402
from mambabench.provenance import provenance  # noqa: E402

UTTERANCE_TASKS = {"SID-like": "fsdd_speaker-v1.0.9-full", "KS-like": "fsdd_digit-v1.0.9-full"}
STEPS = 2_000
EVERY_THIRD = 3  # speakers 03, 10 (men), 13, 16 (women) test; three of each train
ASV_RATE = 1e-4  # SUPERB's; 1e-3 does not learn in as many steps
SILENCE = 1e-3  # of full scale


def audio(task, split: str, clip) -> torch.Tensor:
    return torch.from_numpy(decode(clip_path(task, 16000, split, clip.name), 16000).samples)


def means(encoder, task, split: str) -> ws.LabelledFeatures:
    layers = tuple(range(encoder.n_hidden_states))
    index = {label: i for i, label in enumerate(task.labels)}
    clips = task.clips[split]
    rows = []
    for start in range(0, len(clips), 16):
        batch = torch.stack([audio(task, split, c) for c in clips[start : start + 16]])
        rows.append(encoder.timestamps(batch, layers)[0].mean(1).numpy())
    targets = np.array([[index[clip.labels[0]]] for clip in clips])
    return ws.LabelledFeatures(np.concatenate(rows), targets)


def utterance_row(name: str, folder: Path, encoder, seeds: int) -> dict[str, object]:
    task = load_task(folder)
    parts = {split: means(encoder, task, split) for split in task.splits}
    training = ws.LabelledFeatures(
        np.concatenate([parts[s].features for s in task.splits[2:]]),
        np.concatenate([parts[s].targets for s in task.splits[2:]]),
    )
    sizes = (len(task.labels),)
    settings = ws.WeightedSumSettings(
        sizes, LEARNING_RATES, total_steps=STEPS, eval_every=STEPS // 10
    )
    scores, rates = [], []
    for seed in range(seeds):
        fits = ws.train(training, parts[task.splits[1]], settings, seed)
        best = max(fits, key=lambda fit: fit.validation_accuracy)
        test = parts[task.splits[0]]
        scores.append(
            float(ws.accuracy(ws.predict(best.head, test.features), test.targets, sizes)[0])
        )
        rates.append(best.learning_rate)
    return {
        "task": name,
        "data": folder.name,
        "metric": "accuracy",
        "features": encoder.label,
        "scores": [round(score, 4) for score in scores],
        "learning_rates": rates,
        "n_test": len(parts[task.splits[0]].targets),
        "chance": round(1 / sizes[0], 3),
    }


def _inside(samples: torch.Tensor) -> torch.Tensor:
    """Cut the silence at both ends: clips are filled up with it to equal length."""
    loud = torch.nonzero(samples.abs() > SILENCE)
    return samples[int(loud[0]) : int(loud[-1]) + 1]


def verification_row(folder: Path, seeds: int, steps: int) -> dict[str, object]:
    task = load_task(folder)
    clips = [(split, clip) for split in task.splits for clip in task.clips[split]]
    logmel = SsamLogMel()
    spoken = [logmel(_inside(audio(task, s, c))[None]).reshape(-1, 1, 80).numpy() for s, c in clips]
    speakers = np.array([clip.labels[0] for _, clip in clips])
    names = sorted(set(speakers))
    tested = names[::EVERY_THIRD]
    train = [i for i, name in enumerate(speakers) if name not in tested]
    test = [i for i, name in enumerate(speakers) if name in tested]
    seen = np.concatenate([spoken[i] for i in train])
    frames = [(clip - seen.mean(0)) / seen.std(0) for clip in spoken]
    ids = np.unique(speakers[train], return_inverse=True)[1]
    settings = FrameSettings(ASV_RATE, steps, batch_size=16, gradient_norm=1e3)
    first, second = np.triu_indices(len(test), 1)
    same = speakers[test][first] == speakers[test][second]
    scores = []
    for seed in range(seeds):
        network, _ = fh.train_speakers(([frames[i] for i in train], ids), settings, seed)
        vectors = fh.speaker_embeddings(network, [frames[i] for i in test]).astype(float)
        scores.append(equal_error_rate(same, (vectors[first] * vectors[second]).sum(1))[0])
    return {
        "task": "ASV-like",
        "data": folder.name,
        "metric": "equal error rate",
        "features": "log-mel frames",
        "scores": [round(score, 4) for score in scores],
        "learning_rates": [ASV_RATE] * seeds,
        "n_test": len(same),
        "chance": 0.5,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", type=Path)
    parser.add_argument("--encoder", default="ssam_tiny_random")
    parser.add_argument("--asv-steps", type=int, default=500, help="0 leaves ASV out")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "superb")
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.process_time()
    encoder = load_encoder(options.encoder)
    rows = []
    if options.asv_steps:
        folder = options.tasks / "emodb_speaker-v1-full"
        rows.append(verification_row(folder, options.seeds, options.asv_steps))
        print(json.dumps(rows[-1]), flush=True)
    for name, folder in UTTERANCE_TASKS.items():
        rows.append(utterance_row(name, options.tasks / folder, encoder, options.seeds))
        print(json.dumps(rows[-1]), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    body = {"rows": rows, "cpu_s": round(time.process_time() - start, 1), **provenance()}
    (options.out / "real_audio.json").write_text(json.dumps(body, indent=2) + "\n")
    head = ("task", "data", "features", "metric", "mean", "scores", "n_test", "chance")
    table = [" | ".join(head), " | ".join("---" for _ in head)]
    for row in rows:
        row["mean"] = round(float(np.mean(row["scores"])), 4)
        table.append(" | ".join(str(row[key]) for key in head))
    (options.out / "real_audio.md").write_text(
        "# SUPERB's heads on real audio\n\n`python perf/superb_real.py TASKS`, "
        f"{options.seeds} seeds, {STEPS} steps (ASV {options.asv_steps}), {body['cpu']}, "
        f"{body['cpu_s']} CPU s. n_test counts clips, for ASV trials.\n\n"
        + "\n".join(f"| {line} |" for line in table)
        + "\n"
    )


if __name__ == "__main__":
    main()
