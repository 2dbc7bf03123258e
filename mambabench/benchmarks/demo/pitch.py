"""Demo task: the pitch of a note, two octaves, on a timbre that was never heard in training."""

from __future__ import annotations

from functools import partial

import numpy as np

from mambabench.benchmarks.demo import DemoClip, DemoTask, metadata
from mambabench.benchmarks.demo import synthesis as syn

__all__ = ["task"]

NOTES = range(48, 72)  # MIDI
DURATION_S = 1.0
_N = 12  # harmonics

# amplitude of the harmonics 1, 2, ...; how the sound dies away, in seconds (0: it does not)
TIMBRES: dict[str, tuple[list[float], float]] = {
    "organ": ([1.0, 0.8, 0.0, 0.6, 0.0, 0.0, 0.0, 0.4, 0.0, 0.0, 0.0, 0.0], 0.0),
    "reed": ([1.0 / h if h % 2 else 0.05 for h in range(1, _N + 1)], 0.0),
    "saw": ([1.0 / h for h in range(1, _N + 1)], 0.0),
    "string": ([0.8**h for h in range(_N)], 0.25),
    "brass": ([h / 4 if h < 4 else 4 / h for h in range(1, _N + 1)], 0.6),  # test only
}


def task() -> DemoTask:
    """Describe the task: 24 notes; four timbres train and select, the fifth tests."""
    clips = []
    for timbre in TIMBRES:
        for note in NOTES:
            takes = ["test"] * 4 if timbre == "brass" else ["train"] * 3 + ["valid"]
            for take, split in enumerate(takes):
                name = f"{timbre}_{note}_{take}.wav"
                clips.append(DemoClip(split, name, [note], partial(_note, timbre, note, take)))
    fields = {"pitch_range_min": NOTES[0], "pitch_range_max": NOTES[-1]}
    return DemoTask(
        metadata(
            "demo_pitch",
            ["train", "valid", "test"],
            DURATION_S,
            ["pitch_acc", "chroma_acc"],
            **fields,
        ),
        tuple(str(note) for note in NOTES),
        tuple(clips),
    )


def _note(timbre: str, note: int, take: int) -> syn.Samples:
    rng = syn.generator("pitch", timbre, note, take)
    amplitudes, fall_s = TIMBRES[timbre]
    frequency = syn.midi_to_hz(note + rng.uniform(-0.4, 0.4))
    vibrato = 1 + 0.004 * np.sin(2 * np.pi * rng.uniform(4, 7) * syn.seconds(DURATION_S))
    brightness = np.exp(-rng.uniform(0, 0.3) * np.arange(_N))
    sound = syn.harmonics(frequency * vibrato, amplitudes * brightness, DURATION_S, rng)
    if fall_s:
        sound *= syn.decay(DURATION_S, fall_s * rng.uniform(0.7, 1.4))
    sound = syn.place(sound, rng.uniform(0.0, 0.2), DURATION_S)
    return syn.add_noise(sound, rng.uniform(-3, 12), rng, peak=rng.uniform(0.1, 0.9))
