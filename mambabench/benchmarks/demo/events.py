"""Demo task: when which of five sounds begins, several at a time, in noise."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from mambabench.benchmarks.demo import DemoClip, DemoTask, metadata
from mambabench.benchmarks.demo import synthesis as syn

__all__ = ["task"]

DURATION_S = 1.5
_CLIPS = {"train": 90, "valid": 30, "test": 80}
Sound = Callable[[float, np.random.Generator], syn.Samples]


def _beep(duration_s: float, rng: np.random.Generator) -> syn.Samples:
    return syn.tone(rng.uniform(900, 1300), duration_s)


def _buzz(duration_s: float, rng: np.random.Generator) -> syn.Samples:
    return syn.harmonics(rng.uniform(90, 140), np.ones(20) / 4, duration_s, rng)


def _fall(duration_s: float, rng: np.random.Generator) -> syn.Samples:
    return syn.sweep(rng.uniform(2200, 3000), rng.uniform(500, 800), duration_s)


def _hiss(duration_s: float, rng: np.random.Generator) -> syn.Samples:
    return 0.5 * syn.noise(duration_s, rng, low_hz=rng.uniform(3000, 4000), high_hz=7000)


def _rise(duration_s: float, rng: np.random.Generator) -> syn.Samples:
    return syn.sweep(rng.uniform(500, 800), rng.uniform(2200, 3000), duration_s)


SOUNDS: dict[str, Sound] = {
    "beep": _beep,
    "buzz": _buzz,
    "fall": _fall,
    "hiss": _hiss,
    "rise": _rise,
}


def task() -> DemoTask:
    """Describe the task: two to five events in a clip, no two of one label overlapping."""
    clips = []
    for split, n_clips in _CLIPS.items():
        for number in range(n_clips):
            events = _plan(syn.generator("events", split, number))
            name = f"{split}_{number:03d}.wav"
            render = partial(_render, events, split, number)
            clips.append(DemoClip(split, name, events, render))
    return DemoTask(
        metadata(
            "demo_events",
            list(_CLIPS),
            DURATION_S,
            ["event_onset_200ms_fms", "segment_1s_er"],
            embedding_type="event",
            prediction_type="multilabel",
            evaluation_params={
                "event_postprocessing_grid": {"median_filter_ms": [150], "min_duration": [50, 100]}
            },
        ),
        tuple(SOUNDS),
        tuple(clips),
    )


def _plan(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Choose the events of a clip, in milliseconds, sorted by start."""
    labels = rng.permutation(list(SOUNDS))[: rng.integers(2, 6)]
    events = []
    for label in labels:
        length = int(rng.integers(250, 700))
        start = int(rng.integers(0, round(1000 * DURATION_S) - length))
        events.append({"label": str(label), "start": float(start), "end": float(start + length)})
    return sorted(events, key=lambda event: (event["start"], event["label"]))


def _render(events: list[dict[str, Any]], split: str, number: int) -> syn.Samples:
    rng = syn.generator("events", split, number, "audio")
    mixture = np.zeros(len(syn.seconds(DURATION_S)))
    for event in events:
        length_s = (event["end"] - event["start"]) / 1000
        sound = SOUNDS[event["label"]](length_s, rng)
        fade = np.minimum(1.0, np.minimum(np.arange(len(sound)), np.arange(len(sound))[::-1]) / 80)
        sound = sound / np.sqrt(np.mean(sound**2)) * rng.uniform(0.3, 1.0) * fade
        mixture += syn.place(sound, event["start"] / 1000, DURATION_S)
    return syn.add_noise(mixture, rng.uniform(3, 12), rng, peak=rng.uniform(0.2, 0.9))
