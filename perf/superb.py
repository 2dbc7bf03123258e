"""SUPERB with stored time means against recomputing the encoder at every training step.

Same heads, same steps, same seeds, same batches; the accuracies must be equal. Prints and records,
for KS and ER on generated corpora in the real layouts, the clips that went through the encoder and
the CPU seconds of both ways, and what the published numbers of steps amount to.

usage: python perf/superb.py [--encoder ssam_tiny_random] [--steps 60] [--out results/superb]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "superb")]

from trees import TREES  # noqa: E402

from mambabench.benchmarks import superb  # noqa: E402
from mambabench.benchmarks.layout.read import load_task  # noqa: E402
from mambabench.benchmarks.superb import er  # noqa: E402
from mambabench.benchmarks.superb.prepare import prepare  # noqa: E402
from mambabench.benchmarks.task import AudioPart, Clip  # noqa: E402
from mambabench.extract.audio import decode  # noqa: E402
from mambabench.models.registry import load_encoder  # noqa: E402
from mambabench.probe.families.utterances import pool_rows  # noqa: E402
from mambabench.probe.heads import weighted_sum as ws  # noqa: E402
from mambabench.provenance import provenance  # noqa: E402

RATES = (1e-2, 1e-3)
PASSES = {"superb_ks": (200_000, 32, 51_094), "superb_er": (30_000, 32, 3_540)}


class Recomputed:
    """Features that go through the encoder whenever they are asked for, as s3prl's do."""

    def __init__(self, encoder, clips: list[Clip]) -> None:
        self.encoder, self.clips, self.n_forwards = encoder, clips, 0

    def __getitem__(self, key: tuple[slice, torch.Tensor]) -> torch.Tensor:
        return encode(self.encoder, [self.clips[i] for i in key[1].tolist()], self)

    def to(self, device: str) -> Recomputed:
        return self


def encode(encoder, clips: list[Clip], counter=None) -> torch.Tensor:
    """Return time means [n_layers, n_clips, dim], clips one by one as the store plans them."""
    layers = tuple(range(encoder.n_hidden_states))
    rows = []
    for clip in clips:
        s = clip.source
        part = AudioPart(s.start_s, s.duration_s, s.gain_db)
        audio = torch.from_numpy(decode(s.path, encoder.sample_rate_hz, None, part).samples)
        frames, _ = encoder.timestamps(audio[None], layers)
        rows.append(frames[0].double().mean(0).float())
    if counter is not None:
        counter.n_forwards += len(clips)
    return torch.stack(rows, dim=1)


def split(task_name: str, task) -> dict[str, list[Clip]]:
    if task_name != "superb_er":
        return {name: list(clips) for name, clips in task.clips.items()}
    pool = [clip for session in er.SESSIONS[1:] for clip in task.clips[session]]
    sessions = [session for session in er.SESSIONS[1:] for _ in task.clips[session]]
    rows = pool_rows(sessions, clean=True)
    return {
        "train": [pool[i] for i in rows[0]],
        "valid": [pool[i] for i in rows[1]],
        "test": list(task.clips["Session1"]),
    }


def labelled(task, features: torch.Tensor, clips: list[Clip]) -> ws.LabelledFeatures:
    index = {label: i for i, label in enumerate(task.labels)}
    targets = np.array([[index[clip.labels[0]]] for clip in clips])
    return ws.LabelledFeatures(features.transpose(0, 1).contiguous().numpy(), targets)


def measure(name: str, encoder, steps: int, folder: Path) -> dict[str, object]:
    root = TREES[name](folder / name)
    task = load_task(prepare(name, root, folder / "tasks").directory)
    parts = split(name, task)
    settings = ws.WeightedSumSettings(
        (len(task.labels),), RATES, total_steps=steps, eval_every=steps // 2, batch_size=32
    )

    def test_accuracy(fits, data) -> list[float]:
        return [
            float(
                ws.accuracy(ws.predict(f.head, data.features), data.targets, (len(task.labels),))[0]
            )
            for f in fits
        ]

    start = time.process_time()
    features = {part: encode(encoder, clips) for part, clips in parts.items()}
    stored = {part: labelled(task, features[part], clips) for part, clips in parts.items()}
    extraction = time.process_time() - start
    start = time.process_time()
    ours = test_accuracy(ws.train(stored["train"], stored["valid"], settings, 0), stored["test"])
    training = time.process_time() - start

    lazy = Recomputed(encoder, parts["train"])
    kept = ws._layer_first
    ws._layer_first = lambda data: lazy
    start = time.process_time()
    try:
        theirs = test_accuracy(
            ws.train(stored["train"], stored["valid"], settings, 0), stored["test"]
        )
    finally:
        ws._layer_first = kept
    recomputing = time.process_time() - start
    total, batch, n_train = PASSES[name]
    return {
        "task": superb.TASKS[name].superb_name,
        "clips": {part: len(clips) for part, clips in parts.items()},
        "steps": steps,
        "learning_rates": len(RATES),
        "encoder_clips_stored": sum(map(len, parts.values())),
        "encoder_clips_recomputed": lazy.n_forwards,
        "cpu_s_extract": round(extraction, 2),
        "cpu_s_train_stored": round(training, 2),
        "cpu_s_train_recomputed": round(recomputing, 2),
        "largest_accuracy_difference": max(abs(a - b) for a, b in zip(ours, theirs, strict=True)),
        "published_passes_over_training_set": round(total * batch / n_train),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="ssam_tiny_random")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "superb")
    options = parser.parse_args()
    torch.set_num_threads(1)
    encoder = load_encoder(options.encoder)
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(name, encoder, options.steps, Path(folder)) for name in PASSES]
    options.out.mkdir(parents=True, exist_ok=True)
    body = {"encoder": options.encoder, "rows": rows, **provenance()}
    (options.out / "recomputing.json").write_text(json.dumps(body, indent=2) + "\n")
    head = (
        "task",
        "encoder_clips_stored",
        "encoder_clips_recomputed",
        "cpu_s_extract",
        "cpu_s_train_stored",
        "cpu_s_train_recomputed",
        "largest_accuracy_difference",
    )
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(str(row[key]) for key in head) for row in rows]
    table = "\n".join(f"| {line} |" for line in lines)
    text = (
        f"# Stored time means against recomputing\n\n`python perf/superb.py --steps "
        f"{options.steps}`, encoder {options.encoder}, {body['cpu']}, one thread, CPU seconds.\n"
        "Recomputing grows with steps and learning rates, storing does not: at the published steps "
        "the encoder would pass over the training set "
        + " and ".join(
            f"{r['published_passes_over_training_set']} times ({r['task']})" for r in rows
        )
        + f" a learning rate and seed.\n\n{table}\n"
    )
    (options.out / "recomputing.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
