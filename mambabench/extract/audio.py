"""Find, open and resample the audio of a clip."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mambabench.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mambabench.benchmarks.task import Task

__all__ = [
    "AudioHeader",
    "AudioPart",
    "Decoded",
    "choose_rate",
    "decode",
    "find_audio",
    "read_header",
]


@dataclass(frozen=True)
class AudioHeader:
    """What a file says of itself before its samples are read."""

    n_frames: int  # samples per channel, at the file's own rate
    sample_rate_hz: int
    n_channels: int
    n_bytes: int  # size of the file


@dataclass(frozen=True)
class AudioPart:
    """Which part of a file is a clip, and what is done to its samples."""

    start_s: float = 0.0
    duration_s: float | None = None  # None: to the end
    gain_db: float = 0.0
    trim_silence: bool = False


@dataclass(frozen=True)
class Decoded:
    """The samples of one file, mono, at the rate asked for."""

    samples: npt.NDArray[np.float32]  # [n_samples] in [-1, 1]
    sha256: str  # of the file's bytes


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
    """Return the path of clip `name` in `folder`, or of the FLAC file that stands for it."""
    path = folder / name
    flac = path.with_suffix(".flac")
    return flac if flac.is_file() and not path.is_file() else path


def read_header(path: Path) -> AudioHeader:
    """Read the header of `path`. Raises DataError where it is missing or no audio."""
    import soundfile

    try:
        info = soundfile.info(path)
        return AudioHeader(info.frames, info.samplerate, info.channels, path.stat().st_size)
    except (OSError, soundfile.LibsndfileError) as error:
        raise DataError(_unreadable(path, error)) from error


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
    import numpy as np
    import soundfile

    try:
        data = path.read_bytes()
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise DataError(_unreadable(path, error)) from error
    if not len(samples):
        raise DataError("has no samples: replace or remove it")
    if expected_rate_hz is not None and rate != expected_rate_hz:
        raise DataError(
            f"has {rate} Hz but lies in the folder of {expected_rate_hz} Hz: move or resample it"
        )
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    if part is not None:
        mono = _cut(mono, rate, part)
    if not np.isfinite(mono).all():
        raise DataError("has samples that are not finite: replace it")
    if rate != sample_rate_hz:
        import soxr

        mono = soxr.resample(mono, rate, sample_rate_hz, quality="HQ")
    mono = np.ascontiguousarray(mono, dtype=np.float32)
    return Decoded(mono, hashlib.sha256(data).hexdigest())


def _cut(mono: npt.NDArray[np.float32], rate: int, part: AudioPart) -> npt.NDArray[np.float32]:
    """Return the part of the samples [n] that is the clip; DataError where nothing is left."""
    from mambabench.benchmarks.superb.asv import trim_silence

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


def _unreadable(path: Path, error: Exception) -> str:
    """Say what is wrong in words without the path, which differs between machines."""
    if not path.exists():
        return "is missing"
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror}): replace it"
    text = str(getattr(error, "error_string", error)).rstrip(".")
    return f"is no readable audio ({text}): replace it"
