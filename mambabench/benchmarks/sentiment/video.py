"""Extract 16 kHz audio from the videos of MOSI, MOSEI and CH-SIMS, decoded by `av`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mambabench.benchmarks.sentiment.mmsa import (
    SAMPLE_RATE_HZ,
    BrokenClip,
    read_utterances,
    wav_path,
)
from mambabench.errors import DataError
from mambabench.files import atomic_write

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["extract_audio", "read_video_audio", "video_path"]


def _decoder() -> Any:
    try:
        import av
    except ImportError as error:
        raise DataError(
            "reading audio from videos needs the package av: pip install av; or put 16 kHz WAV "
            "files below ROOT/wav/<video>/<clip>.wav yourself"
        ) from error
    return av


def video_path(root: Path, video: str, clip: str) -> Path:
    """Return the clip's video; a repaired copy named <clip>-edited.mp4 goes before it."""
    folder = root / "Raw" / video
    edited = folder / f"{clip}-edited.mp4"
    return edited if edited.is_file() else folder / f"{clip}.mp4"


def read_video_audio(path: Path) -> npt.NDArray[np.int16]:
    """Return the first audio stream of a video as 16 kHz samples, [n, channels] int16.

    Raises DataError where the file cannot be decoded or has no audio.
    """
    import numpy as np

    av = _decoder()
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise DataError(f"{path} has no audio stream")
            resampler = av.AudioResampler(format="s16", rate=SAMPLE_RATE_HZ)
            parts = []
            for frame in container.decode(container.streams.audio[0]):
                parts += [_samples(part) for part in resampler.resample(frame)]
            parts += [_samples(part) for part in resampler.resample(None)]
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{path} cannot be decoded: {error}") from error
    if not parts:
        raise DataError(f"{path} holds no audio samples")
    return np.concatenate(parts)


def _samples(frame: Any) -> npt.NDArray[np.int16]:
    packed = frame.to_ndarray()  # [1, n * channels] for packed formats
    return packed.reshape(-1, len(frame.layout.channels))  # type: ignore[no-any-return]


def extract_audio(root: Path, dataset: str) -> tuple[int, tuple[BrokenClip, ...]]:
    """Write ROOT/wav/<video>/<clip>.wav for every clip that has none; 16-bit PCM, 16 kHz.

    Returns how many were written and which could not be. Clips that exist are left as they are, so
    that a run that was cut off continues.
    """
    import soundfile

    _decoder()
    written, broken = 0, []
    for item in read_utterances(root, dataset):
        target = wav_path(root, item)
        if target.is_file():
            continue
        source = video_path(root, item.video, item.clip)
        try:
            if not source.is_file():
                raise DataError(f"{source} is missing")
            samples = read_video_audio(source)
        except DataError as error:
            broken.append(BrokenClip(item.name, str(error)))
            continue

        def write(file: BinaryIO, samples: Any = samples) -> None:
            soundfile.write(file, samples, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")

        atomic_write(target, write)
        written += 1
    return written, tuple(broken)
