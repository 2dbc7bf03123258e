"""Find, open and resample the audio of a clip."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mambabench.benchmarks.layout.silence import trim_silence
from mambabench.benchmarks.task import AudioPart
from mambabench.errors import DataError
from mambabench.reading.audio import decode_bytes, find_file, read_bytes, read_header

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mambabench.benchmarks.task import Task

__all__ = [
    "DURATION_TOLERANCE_S",
    "Decoded",
    "choose_rate",
    "decode",
    "find_audio",
    "length_note",
    "read_header",
]


DURATION_TOLERANCE_S = 0.01  # resamplers round the length


@dataclass(frozen=True)
class Decoded:
    """The samples of one file, mono, at the rate asked for."""

    samples: npt.NDArray[np.float32]  # [n_samples] in [-1, 1]
    sha256: str  # of the file's bytes
    problem: str | None = None  # why it may not be the whole recording
    file_s: float = 0.0  # seconds of audio in the whole file


def choose_rate(task: Task, sample_rate_hz: int) -> int:
    """Return the audio folder to read: the encoder's own rate, else the nearest above, else the
    highest.

    Raises DataError where the task directory holds no audio.
    """
    if not task.sample_rates_hz:
        raise DataError(
            f"{task.directory} holds no audio: expected a folder named by its sample rate, "
            f"such as {sample_rate_hz}, with one folder per split"
        )
    above = [rate for rate in task.sample_rates_hz if rate >= sample_rate_hz]
    return min(above) if above else max(task.sample_rates_hz)


def find_audio(folder: Path, name: str) -> Path:
    """Return the path of clip `name` in `folder`, or of the file that stands for it: of another
    audio ending (such as .flac), or of the same name in Unicode's other form."""
    return find_file(folder / name)


def decode(
    path: Path,
    sample_rate_hz: int,
    expected_rate_hz: int | None = None,
    part: AudioPart | None = None,
) -> Decoded:
    """Read `path`, average its channels and resample it to `sample_rate_hz` (soxr HQ).

    `part` cuts, trims and scales the samples before they are resampled.

    Raises DataError where the file is missing, corrupt, empty or not finite, or has not the rate
    `expected_rate_hz` of the folder that it lies in.
    """
    data = read_bytes(path)
    audio = decode_bytes(data)
    samples, rate = audio.samples, audio.sample_rate_hz
    if not len(samples):
        raise DataError(f"{audio.problem or 'has no samples'}: replace or remove it")
    if expected_rate_hz is not None and rate != expected_rate_hz:
        raise DataError(
            f"has {rate} Hz but lies in the folder of {expected_rate_hz} Hz: move or resample it"
        )
    try:
        mono = _prepared(samples, rate, sample_rate_hz, part)
    except DataError:
        raise
    except Exception as error:  # of the resampler, or of memory: this clip's fault
        raise DataError(f"cannot be resampled ({type(error).__name__}: {error})") from error
    return Decoded(mono, hashlib.sha256(data).hexdigest(), audio.problem, len(samples) / rate)


def _prepared(
    samples: npt.NDArray[np.float32], rate: int, sample_rate_hz: int, part: AudioPart | None
) -> npt.NDArray[np.float32]:
    """Average the channels of samples [n, n_channels], cut, scale and resample them."""
    import numpy as np

    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    if part is not None:
        mono = _cut(mono, rate, part)
    if not np.isfinite(mono).all():
        raise DataError("has samples that are not finite: replace it")
    if rate != sample_rate_hz:
        import soxr

        mono = soxr.resample(mono, rate, sample_rate_hz, quality="HQ")
    return np.ascontiguousarray(mono, dtype=np.float32)


def _cut(mono: npt.NDArray[np.float32], rate: int, part: AudioPart) -> npt.NDArray[np.float32]:
    """Return the part of the samples [n] that is the clip; DataError where nothing is left."""

    if part.gain_db:  # before the gate, as SUPERB's chain of effects has it
        mono = mono * mono.dtype.type(10.0 ** (part.gain_db / 20.0))
    if part.trim_silence:
        mono = trim_silence(mono, rate)
    start = round(part.start_s * rate)
    stop = None if part.duration_s is None else start + round(part.duration_s * rate)
    mono = mono[start:stop]
    if not len(mono):
        raise DataError("has no samples left after cutting: it is silent or shorter than its part")
    return mono


def length_note(audio: Decoded, clip_s: float | None) -> str | None:
    """Say in words how a file's length differs from its header or from the task's `clip_s`."""
    if audio.problem is not None:
        return audio.problem
    if clip_s is not None and abs(audio.file_s - clip_s) > DURATION_TOLERANCE_S:
        return f"lasts {audio.file_s:.3f} s, sample_duration says {clip_s:g} s"
    return None
