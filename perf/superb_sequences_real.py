"""SUPERB's recurrent heads on real speech: spelled digits as ASR, two-speaker mixtures as SD.

ASR-like: two to four digits of one speaker joined and spelled in letters (fsdd_digit_loso: a fold a
speaker; fold 0 tests, fold 1 selects, the others train). SD-like: two clips of two speakers added
with an offset (emodb_speaker: two speakers test, two select, six train), turns are the clips
without the silence at their ends; the setting is chosen on the selecting speakers. Both on log-mel
frames (80 bands, 10 ms) and on the frames of encoders, standardised on the training clips, with
heads narrower than SUPERB's. Rows of encoders that are left out stay as they are in the table.

usage: python perf/superb_sequences_real.py TASKS [--asr-steps 600] [--sd-steps 400]
                                            [--encoder log-mel] [--encoder silero_vad]...
  TASKS  folder that unpack.py of the test data wrote
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mambabench.benchmarks.kinds import speaker_turns  # noqa: E402
from mambabench.benchmarks.kinds.text import units_of, words_of  # noqa: E402
from mambabench.benchmarks.layout.read import load_task  # noqa: E402
from mambabench.benchmarks.metrics.edit_distance import pooled_rate  # noqa: E402
from mambabench.benchmarks.superb import asr  # noqa: E402
from mambabench.benchmarks.task import clip_path  # noqa: E402
from mambabench.extract.audio import decode  # noqa: E402
from mambabench.models.encoders.frontends import SsamLogMel  # noqa: E402
from mambabench.models.registry import load_encoder  # noqa: E402
from mambabench.probe import sequence_heads as sh  # noqa: E402
from mambabench.probe.families.symbols import share_too_long  # noqa: E402
from mambabench.probe.frame_training import FrameSettings  # noqa: E402
from mambabench.probe.heads.frame_heads import Speech  # noqa: E402
from mambabench.provenance import provenance  # noqa: E402

RATE, SILENCE, WIDTH = 16_000, 1e-3, 64
DIGITS = "ZERO ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE".split()  # noqa: SIM905
ASR_TASK, SD_TASK = "fsdd_digit_loso-v1.0.9-full", "emodb_speaker-v1-full"


def inside(samples: np.ndarray) -> np.ndarray:
    loud = np.flatnonzero(np.abs(samples) > SILENCE)
    return samples[loud[0] : loud[-1] + 1]


def clips_of(task, split: str) -> list[tuple[np.ndarray, str]]:
    """Return (samples without outer silence, label) of every clip."""
    return [
        (inside(decode(clip_path(task, RATE, split, c.name), RATE).samples), c.labels[0])
        for c in task.clips[split]
    ]


class Features:
    """Frames of signals: log-mel, or all layers of an encoder."""

    def __init__(self, name: str) -> None:
        self.name, self.shift = name, 160.0  # in samples
        self.encoder = None if name == "log-mel" else load_encoder(name)
        if self.encoder is not None:
            times = self.encoder.timestamps(torch.zeros(1, 2 * RATE), None)[1][0]
            self.shift = float(times.diff().median()) * RATE / 1000
        self.front = SsamLogMel()

    def __call__(self, signals: list[np.ndarray]) -> list[np.ndarray]:
        """Return [n_frames, n_layers, dim] of each signal."""
        if self.encoder is None:
            return [
                self.front(torch.from_numpy(s)[None]).reshape(-1, 1, 80).numpy() for s in signals
            ]
        layers = tuple(range(self.encoder.n_hidden_states))
        return [
            self.encoder.timestamps(torch.from_numpy(s)[None], layers)[0][0].numpy()
            for s in signals
        ]


def standardised(parts: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    """Scale all parts by the first one's mean and deviation."""
    seen = np.concatenate(parts[0])
    spread = np.maximum(seen.std(0), 1e-5)
    return [[(clip - seen.mean(0)) / spread for clip in part] for part in parts]


def joined(clips: list[tuple[np.ndarray, str]], n: int, seed: int) -> tuple[list, list[list[int]]]:
    rng = np.random.default_rng(seed)
    signals, targets = [], []
    for _ in range(n):
        rows = rng.integers(0, len(clips), rng.integers(2, 5))
        gap = np.zeros(RATE // 10, np.float32)
        signals.append(np.concatenate([x for i in rows for x in (clips[i][0], gap)]))
        text = " ".join(DIGITS[int(clips[i][1])] for i in rows)
        targets.append([asr.SYMBOLS.index(s) for s in asr.encode_text(text)])
    return signals, targets


def asr_row(folder: Path, features: Features, steps: int) -> dict[str, object]:
    task = load_task(folder)
    parts = [
        joined([c for s in splits for c in clips_of(task, s)], n, seed)
        for seed, (splits, n) in enumerate(
            ((task.splits[2:], 600), (task.splits[1:2], 60), (task.splits[:1], 200))
        )
    ]
    frames = standardised([features(signals) for signals, _ in parts])
    speech = [
        Speech(f, targets, [len(s) for s in signals])
        for f, (signals, targets) in zip(frames, parts, strict=True)
    ]

    def words(paths: list[list[int]]) -> list[list[str]]:
        return [words_of([asr.SYMBOLS[k] for k in path]) for path in paths]

    settings = FrameSettings(2e-3, steps, accumulation=1, eval_every=max(1, steps // 6))
    head, valid, step = sh.train_text(
        speech[0],
        speech[1].frames,
        lambda found: pooled_rate(words(speech[1].targets), words(found)),
        settings,
        0,
        n_symbols=len(asr.SYMBOLS),
        width=WIDTH,
        batches=sh.length_batches(speech[0].samples()),
        dropped=(2,),
        augmented=False,
    )
    found = sh.decode_text(head, speech[2].frames, (2,))
    units = [[asr.SYMBOLS[k] for k in path] for path in found]
    wanted = [units_of([asr.SYMBOLS[k] for k in t]) for t in speech[2].targets]
    return {
        "task": "ASR-like",
        "data": folder.name,
        "features": f"{features.name}, {features.shift / 16:g} ms",
        "metric": "word error rate",
        "score": round(pooled_rate(words(speech[2].targets), words(found)), 4),
        "letters": round(pooled_rate(wanted, units), 4),
        "targets longer than frames": round(
            share_too_long(speech[2].targets, [len(clip) for clip in frames[2]]), 3
        ),
        "validation": round(valid, 4),
        "steps": f"{step} of {steps}",
        "n_test": 200,
    }


def mixtures(clips: list[tuple[np.ndarray, str]], n: int, seed: int) -> list[tuple]:
    """Return (name, signal, turns) of pairs of clips by different speakers, one after the other
    with an overlap of up to half the first."""
    rng = np.random.default_rng(seed)
    made = []
    while len(made) < n:
        i, j = rng.integers(0, len(clips), 2)
        if clips[i][1] == clips[j][1]:
            continue
        (first, one), (second, two) = clips[i], clips[j]
        offset = int(rng.uniform(0.5, 1.1) * len(first))
        signal = np.zeros(max(len(first), offset + len(second)), np.float32)
        signal[: len(first)] += first
        signal[offset : offset + len(second)] += second
        name = f"m{seed}-{len(made)}"
        turns = (
            speaker_turns.Turn(name, 0.0, len(first) / RATE, one),
            speaker_turns.Turn(name, offset / RATE, (offset + len(second)) / RATE, two),
        )
        made.append((name, signal, turns))
    return made


def sd_row(folder: Path, features: Features, steps: int) -> dict[str, object]:
    task = load_task(folder)
    clips = [c for split in task.splits for c in clips_of(task, split)]
    names = sorted({label for _, label in clips})
    tested, selecting = {names[0], names[-1]}, {names[1], names[-2]}
    groups = [set(names) - tested - selecting, selecting, tested]
    parts = [
        mixtures([c for c in clips if c[1] in group], n, seed)
        for seed, (group, n) in enumerate(zip(groups, (240, 40, 100), strict=True))
    ]
    frames = standardised([features([m[1] for m in part]) for part in parts])
    shift = features.shift
    labels = [[labels_of(m, shift) for m in part] for part in parts]
    settings = FrameSettings(
        1e-3, steps, batch_size=8, accumulation=1, eval_every=max(1, steps // 6)
    )
    head, _, step = sh.train_speaking(
        (frames[0], labels[0]), (frames[1], labels[1]), settings, 0, width=WIDTH
    )
    rates = {
        setting: error_of(head, frames[1], labels[1], parts[1], setting, shift)
        for setting in itertools.product(speaker_turns.THRESHOLDS, speaker_turns.MEDIANS)
    }
    setting = min(rates, key=lambda s: rates[s])
    return {
        "task": "SD-like",
        "data": folder.name,
        "features": f"{features.name}, {features.shift / 16:g} ms",
        "metric": "diarization error rate",
        "score": round(error_of(head, frames[2], labels[2], parts[2], setting, shift), 4),
        "letters": "",
        "targets longer than frames": "",
        "validation": round(rates[setting], 4),
        "steps": f"{step} of {steps}",
        "n_test": 100,
    }


def labels_of(mixture: tuple, shift: float) -> np.ndarray:
    _, signal, turns = mixture
    speakers = sorted(turn.speaker for turn in turns)
    return speaker_turns.frame_labels(turns, speakers, 0, int(len(signal) / shift), shift)


def error_of(head, frames, labels, part, setting: tuple[float, int], shift: float) -> float:
    counts = []
    for clip, label, (name, _, turns) in zip(frames, labels, part, strict=True):
        found = sh.predict_speakers(head, [clip], [len(label)], cut=True)
        given = speaker_turns.speech_turns(name, found, *setting, shift)
        counts.append(speaker_turns.count_errors(turns, given))
    return speaker_turns.error_rate(counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", type=Path)
    parser.add_argument("--asr-steps", type=int, default=600, help="0 leaves ASR out")
    parser.add_argument("--sd-steps", type=int, default=400, help="0 leaves SD out")
    parser.add_argument("--encoder", action="append", help="log-mel (default) or an encoder's name")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "superb")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = options.out / "sequences_real.json"
    kept = json.loads(known.read_text())["rows"] if known.exists() else []
    rows = {(row["features"], row["task"]): row for row in kept}
    for name in options.encoder or ["log-mel"]:
        features = Features(name)
        for run, task, steps in (
            (sd_row, SD_TASK, options.sd_steps),
            (asr_row, ASR_TASK, options.asr_steps),
        ):
            if steps:
                start = time.process_time()
                row = run(options.tasks / task, features, steps)
                row |= {"cpu_s": round(time.process_time() - start, 1), "cpu": provenance()["cpu"]}
                rows[row["features"], row["task"]] = row
                print(json.dumps(row), flush=True)
                write(list(rows.values()), options.out)


def write(rows: list[dict[str, object]], out: Path) -> None:
    """Write what is measured so far."""
    body = {"rows": rows, **provenance()}
    out.mkdir(parents=True, exist_ok=True)
    (out / "sequences_real.json").write_text(json.dumps(body, indent=2) + "\n")
    head = max((list(row) for row in rows), key=len)
    lines = [head, ["---"] * len(head)]
    lines += [[str(row.get(key, "")) for key in head] for row in rows]
    (out / "sequences_real.md").write_text(
        "# SUPERB's recurrent heads on real speech\n\n`python perf/superb_sequences_real.py TASKS`,"
        f" heads {WIDTH} wide, one seed, one thread. Test speakers are never heard in training. "
        "Features with a name are trained encoders of the zoo, with their own hop.\n\n"
        + "\n".join("| " + " | ".join(line) + " |" for line in lines)
        + "\n"
    )


if __name__ == "__main__":
    main()
