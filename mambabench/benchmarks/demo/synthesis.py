"""What the demo's sounds are made of: random streams, tones, shaped noise, envelopes, mixtures."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.demo import SAMPLE_RATE_HZ

__all__ = [
    "add_noise",
    "decay",
    "generator",
    "harmonics",
    "midi_to_hz",
    "noise",
    "place",
    "seconds",
    "sweep",
    "tone",
]

Samples = npt.NDArray[np.float64]


def generator(*key: str | int) -> np.random.Generator:
    """Return the random stream that belongs to `key`, the same on every run."""
    return np.random.Generator(np.random.PCG64([zlib.crc32(str(part).encode()) for part in key]))


def seconds(duration_s: float) -> Samples:
    """Return the times of the samples of `duration_s`, in seconds."""
    return np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ


def midi_to_hz(note: float) -> float:
    """Return the frequency of a MIDI note number (69 is 440 Hz)."""
    return float(440.0 * 2.0 ** ((note - 69.0) / 12.0))


def tone(frequency_hz: float, duration_s: float, phase: float = 0.0) -> Samples:
    """Return a sine."""
    return np.sin(2 * np.pi * frequency_hz * seconds(duration_s) + phase)


def sweep(start_hz: float, end_hz: float, duration_s: float, curve: float = 1.0) -> Samples:
    """Return a sine whose frequency goes from start to end; `curve` > 1 goes faster at first."""
    time = seconds(duration_s)
    position = 1.0 - (1.0 - time / duration_s) ** curve
    frequency = start_hz * (end_hz / start_hz) ** position
    return np.sin(2 * np.pi * np.cumsum(frequency) / SAMPLE_RATE_HZ)


def harmonics(
    frequency_hz: float | Samples,
    amplitudes: npt.ArrayLike,
    duration_s: float,
    rng: np.random.Generator,
) -> Samples:
    """Return harmonics 1, 2, ... of a (possibly varying) fundamental with random phases.

    Harmonics at or above half the sampling rate are left out.
    """
    weights = np.asarray(amplitudes, dtype=np.float64)
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(frequency_hz, len(seconds(duration_s))))
    phase /= SAMPLE_RATE_HZ
    highest = float(np.max(frequency_hz))
    turn = np.exp(1j * phase)
    power = np.ones_like(turn)  # turn ** number: one product per harmonic is cheaper than a sine
    total = np.zeros_like(phase)
    for number, (weight, start) in enumerate(
        zip(weights, rng.uniform(0, 2 * np.pi, len(weights)), strict=True), start=1
    ):
        power *= turn
        if weight and number * highest < 0.49 * SAMPLE_RATE_HZ:
            total += weight * (np.sin(start) * power.real + np.cos(start) * power.imag)
    return total


def noise(duration_s: float, rng: np.random.Generator, *, low_hz: float, high_hz: float) -> Samples:
    """Return noise of unit RMS in a band with soft edges (a third of an octave)."""
    n = len(seconds(duration_s))
    spectrum = np.fft.rfft(rng.standard_normal(n))
    frequency = np.maximum(np.fft.rfftfreq(n, 1 / SAMPLE_RATE_HZ), 1.0)
    above = 1.0 / (1.0 + (low_hz / frequency) ** 12)
    below = 1.0 / (1.0 + (frequency / high_hz) ** 12)
    shaped = np.fft.irfft(spectrum * above * below, n)
    result: Samples = shaped / np.sqrt(np.mean(shaped**2))
    return result


def decay(duration_s: float, time_constant_s: float, attack_s: float = 0.002) -> Samples:
    """Return an envelope that rises linearly in `attack_s` and then falls exponentially."""
    time = seconds(duration_s)
    rise = np.minimum(time / attack_s, 1.0)
    result: Samples = rise * np.exp(-np.maximum(time - attack_s, 0.0) / time_constant_s)
    return result


def place(sound: Samples, start_s: float, duration_s: float) -> Samples:
    """Return silence of `duration_s` with `sound` from `start_s` on; what does not fit is cut."""
    result = np.zeros(len(seconds(duration_s)))
    first = round(start_s * SAMPLE_RATE_HZ)
    part = sound[: max(len(result) - first, 0)]
    result[first : first + len(part)] = part
    return result


def add_noise(
    sound: Samples, snr_db: float, rng: np.random.Generator, peak: float = 0.5
) -> Samples:
    """Return `sound` in pinkish noise at the given ratio of mean powers, scaled to `peak`."""
    n = len(sound)
    spectrum = np.fft.rfft(rng.standard_normal(n))
    frequency = np.maximum(np.fft.rfftfreq(n, 1 / SAMPLE_RATE_HZ), 50.0)
    hiss = np.fft.irfft(spectrum / np.sqrt(frequency), n)
    hiss *= np.sqrt(np.mean(sound**2) / np.mean(hiss**2)) * 10 ** (-snr_db / 20)
    mixed = sound + hiss
    result: Samples = mixed * (peak / np.max(np.abs(mixed)))
    return result
