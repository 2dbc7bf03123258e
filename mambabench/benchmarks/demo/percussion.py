"""Demo task: which of eight percussion instruments is struck; five folds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from mambabench.benchmarks.demo import DemoClip, DemoTask, metadata
from mambabench.benchmarks.demo import synthesis as syn

__all__ = ["task"]

DURATION_S = 1.0
_N_FOLDS = 5
_TAKES = 8  # per instrument and fold


def _drum(low_hz: float, high_hz: float, fall_s: float, rng: np.random.Generator) -> syn.Samples:
    end = rng.uniform(low_hz, high_hz)
    body = syn.sweep(end * rng.uniform(1.5, 2.5), end, 0.5, curve=4.0)
    return body * syn.decay(0.5, fall_s * rng.uniform(0.6, 1.6))


def _hiss(low_hz: float, fall_s: float, rng: np.random.Generator) -> syn.Samples:
    band = syn.noise(0.5, rng, low_hz=low_hz * rng.uniform(0.7, 1.3), high_hz=7500.0)
    return band * syn.decay(0.5, fall_s * rng.uniform(0.6, 1.6))


def _kick(rng: np.random.Generator) -> syn.Samples:
    return _drum(45, 90, 0.12, rng)


def _tom(rng: np.random.Generator) -> syn.Samples:
    return _drum(75, 180, 0.16, rng)


def _conga(rng: np.random.Generator) -> syn.Samples:
    return _drum(150, 330, 0.12, rng)


def _snare(rng: np.random.Generator) -> syn.Samples:
    return _drum(140, 240, 0.08, rng) + rng.uniform(0.1, 0.5) * _hiss(1500, 0.09, rng)


def _clap(rng: np.random.Generator) -> syn.Samples:
    burst = _hiss(1200, 0.012, rng)
    gap = rng.uniform(0.010, 0.016)
    rattle = sum(syn.place(burst, i * gap, 0.5) for i in range(3))
    return rattle + syn.place(_hiss(1200, 0.07, rng), 3 * gap, 0.5)


def _closed_hat(rng: np.random.Generator) -> syn.Samples:
    return _hiss(4500, 0.035, rng)


def _open_hat(rng: np.random.Generator) -> syn.Samples:
    return _hiss(4500, 0.11, rng)


def _cowbell(rng: np.random.Generator) -> syn.Samples:
    base = rng.uniform(480, 640)
    bell = sum(
        syn.harmonics(base * ratio, [1.0, 0.0, 0.33, 0.0, 0.2], 0.5, rng) for ratio in (1.0, 1.48)
    )
    return np.asarray(bell) * syn.decay(0.5, rng.uniform(0.05, 0.15))


INSTRUMENTS: dict[str, Callable[[np.random.Generator], syn.Samples]] = {
    "clap": _clap,
    "closed hat": _closed_hat,
    "conga": _conga,
    "cowbell": _cowbell,
    "kick": _kick,
    "open hat": _open_hat,
    "snare": _snare,
    "tom": _tom,
}


def task() -> DemoTask:
    """Describe the task: eight instruments, their parameters overlapping, in noise."""
    clips = []
    for fold in range(_N_FOLDS):
        for instrument in INSTRUMENTS:
            for take in range(_TAKES):
                name = f"{instrument.replace(' ', '_')}_{fold}_{take}.wav"
                render = partial(_strike, instrument, fold, take)
                clips.append(DemoClip(f"fold{fold:02d}", name, [instrument], render))
    return DemoTask(
        metadata(
            "demo_percussion",
            [f"fold{fold:02d}" for fold in range(_N_FOLDS)],
            DURATION_S,
            ["top1_acc", "mAP", "d_prime", "aucroc"],
        ),
        tuple(INSTRUMENTS),
        tuple(clips),
    )


def _strike(instrument: str, fold: int, take: int) -> syn.Samples:
    rng = syn.generator("percussion", instrument, fold, take)
    sound = INSTRUMENTS[instrument](rng)
    sound = syn.place(sound / np.max(np.abs(sound)), rng.uniform(0.0, 0.5), DURATION_S)
    return syn.add_noise(sound, rng.uniform(-5, 10), rng, peak=rng.uniform(0.1, 0.9))
