"""Demo task: which vowel is spoken, by source and filter; every split has its own speakers."""

from __future__ import annotations

from functools import partial

import numpy as np

from mambabench.benchmarks.demo import SAMPLE_RATE_HZ, DemoClip, DemoTask, metadata
from mambabench.benchmarks.demo import synthesis as syn

__all__ = ["task"]

DURATION_S = 1.0
_SPEAKERS = {"train": 20, "valid": 6, "test": 16}

# centre frequencies of the first three formants in Hz, as an adult with a long vocal tract has them
VOWELS: dict[str, tuple[float, float, float]] = {
    "a": (730, 1100, 2450),
    "ae": (660, 1700, 2400),
    "e": (530, 1850, 2500),
    "er": (490, 1350, 1700),
    "i": (270, 2300, 3000),
    "ih": (390, 2000, 2550),
    "o": (570, 840, 2400),
    "u": (300, 870, 2250),
    "uh": (440, 1020, 2250),
    "v": (640, 1200, 2400),
}
_BANDWIDTHS_HZ = (80.0, 100.0, 140.0)


def task() -> DemoTask:
    """Describe the task: ten vowels, every speaker in one split only; clusters are speakers."""
    clips = []
    for split, n_speakers in _SPEAKERS.items():
        for number in range(n_speakers):
            speaker = f"{split}{number:02d}"
            for vowel in VOWELS:
                render = partial(_vowel, vowel, speaker)
                name = f"{speaker}_{vowel}.wav"
                clips.append(DemoClip(split, name, [vowel], render, cluster=speaker))
    return DemoTask(
        metadata(
            "demo_vowel",
            list(_SPEAKERS),
            DURATION_S,
            ["top1_acc", "mAP", "d_prime", "aucroc"],
        ),
        tuple(VOWELS),
        tuple(clips),
    )


def _vowel(vowel: str, speaker: str) -> syn.Samples:
    voice = syn.generator("vowel", speaker)
    tract, pitch_hz = (
        voice.uniform(0.95, 1.25),
        voice.uniform(90, 240),
    )  # short tract: high formants
    tilt = voice.uniform(0.8, 1.4)
    rng = syn.generator("vowel", speaker, vowel)
    formants = np.array(VOWELS[vowel]) * tract * rng.uniform(0.95, 1.05, 3)
    glide = 1 + rng.uniform(-0.15, 0.15) * syn.seconds(DURATION_S) / DURATION_S
    n_harmonics = int(0.45 * SAMPLE_RATE_HZ / (pitch_hz * 1.15))
    frequency = pitch_hz * np.arange(1, n_harmonics + 1)
    response = np.zeros(n_harmonics)
    for centre, bandwidth in zip(formants, _BANDWIDTHS_HZ, strict=True):
        response += (centre / 500) ** -0.5 / np.sqrt(1 + ((frequency - centre) / bandwidth) ** 2)
    amplitudes = response * np.arange(1, n_harmonics + 1) ** (1 - tilt) / np.sqrt(frequency)
    sound = syn.harmonics(pitch_hz * glide, amplitudes, DURATION_S, rng)
    sound *= syn.decay(DURATION_S, rng.uniform(0.2, 0.6), attack_s=0.03)
    sound = syn.place(sound, rng.uniform(0.0, 0.3), DURATION_S)
    return syn.add_noise(sound, rng.uniform(5, 20), rng, peak=rng.uniform(0.1, 0.9))
