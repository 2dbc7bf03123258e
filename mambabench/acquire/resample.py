"""Make further sample rates of a task directory, in parallel, and record how."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
import soundfile
import soxr

from mambabench.acquire.unpack import RECORD_FOLDER
from mambabench.errors import DataError
from mambabench.files import read_json, write_json
from mambabench.reading.audio import read_audio

__all__ = ["QUALITY", "resample_task"]

QUALITY = "VHQ"  # soxr's name; HEAR's own archives were made with ffmpeg's soxr resampler


def resample_task(
    directory: Path,
    sample_rate_hz: int,
    *,
    jobs: int = 1,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> int:
    """Write ``directory/<sample_rate_hz>`` from the highest rate there and return the clip count.

    Mono 16-bit WAV without dither, so that the same input gives the same bytes; the folder appears
    whole or not at all, and ``.mambabench/resampled-<rate>.json`` says from what and with what it
    was made. Raises DataError where no audio is there or a clip cannot be read.
    """
    if not (directory / "task_metadata.json").is_file():
        raise DataError(f"{directory} is no task directory: it has no task_metadata.json")
    target = directory / str(sample_rate_hz)
    if target.is_dir():
        return 0
    rates = sorted(int(p.name) for p in directory.iterdir() if p.is_dir() and p.name.isdigit())
    if not rates:
        raise DataError(f"{directory} holds no audio folder such as {directory / '48000'}")
    source = directory / str(rates[-1])
    clips = sorted(p for p in source.rglob("*") if p.is_file())
    (directory / RECORD_FOLDER).mkdir(exist_ok=True)
    staging = Path(
        tempfile.mkdtemp(prefix="resampling-", suffix=".tmp", dir=directory / RECORD_FOLDER)
    )
    try:
        _all(clips, source, staging, (sample_rate_hz, jobs), progress)
        os.chmod(staging, 0o755)
        os.replace(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    record = {
        "schema": "mambabench.resampled/1",
        "source_rate_hz": rates[-1],
        "sample_rate_hz": sample_rate_hz,
        "resampler": "soxr",
        "quality": QUALITY,
        "soxr_version": version("soxr"),
        "dither": "none",
        "n_clips": len(clips),
    }
    write_json(directory / RECORD_FOLDER / f"resampled-{sample_rate_hz}.json", record)
    return len(clips)


def _all(
    clips: list[Path],
    source: Path,
    staging: Path,
    rate_and_jobs: tuple[int, int],
    progress: Callable[[str, int, int | None], None] | None,
) -> None:
    sample_rate_hz, jobs = rate_and_jobs
    label = f"{source.parent.name} at {sample_rate_hz} Hz"

    def one(clip: Path) -> None:
        out = staging / clip.relative_to(source)
        out.parent.mkdir(parents=True, exist_ok=True)
        _one(clip, out, sample_rate_hz)

    # threads: decoding, resampling and writing all run outside the interpreter's lock
    with ThreadPoolExecutor(jobs) as pool:
        for i, _ in enumerate(pool.map(one, clips), 1):
            if progress is not None:
                progress(label, i, len(clips))


def _one(clip: Path, out: Path, sample_rate_hz: int) -> None:
    try:
        audio = read_audio(clip)
        if audio.problem is not None:
            raise DataError(audio.problem)
    except DataError as error:
        raise DataError(f"{clip} {error}; get the archive again") from error
    rate, mono = audio.sample_rate_hz, audio.samples.mean(axis=1, dtype=np.float64)
    resampled = soxr.resample(mono, rate, sample_rate_hz, quality=QUALITY) if len(mono) else mono
    samples = np.clip(np.rint(resampled * 32768.0), -32768, 32767).astype(np.int16)
    kind = "FLAC" if out.suffix.lower() == ".flac" else "WAV"
    soundfile.write(out, samples, sample_rate_hz, subtype="PCM_16", format=kind)


def resampling_record(directory: Path, sample_rate_hz: int) -> dict[str, object] | None:
    """Return how that rate was made, or None where it came from an archive."""
    path = directory / RECORD_FOLDER / f"resampled-{sample_rate_hz}.json"
    return dict(read_json(path)) if path.is_file() else None
