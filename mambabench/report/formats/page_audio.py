"""The page's sound: of the hardest clips within it, of every clip where the audio lies beside it.

Within it they are short, mono, 16 kHz, Opus where libsndfile can. Clips of restricted tasks have
none.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mambabench.benchmarks.layout.read import load_task
from mambabench.benchmarks.task import Clip, Task, clip_path
from mambabench.errors import DataError
from mambabench.reading.audio import find_file, read_audio
from mambabench.report.formats.page_clips import TaskClips

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "AUDIO_FOLDER", "MOST_BYTES", "MOST_S", "Beside", "Sounds", "hardest_sounds", "sounds_beside",
]  # fmt: skip

AUDIO_FOLDER = "audio"  # beside the page: task directories in HEAR's layout, or a link to some

MOST_S = 5.0  # of one clip
MOST_BYTES = 10_000_000  # of all sounds of a page, as base64
_RATE_HZ = 16_000


@dataclass(frozen=True)
class Beside:
    """Where a task's audio lies: FOLDER/SPLIT/CLIP, seen from the page."""

    folder: str
    splits: list[tuple[str, int]]  # of the clips in their order, and of how many that one is


@dataclass(frozen=True)
class Sounds:
    """Sounds by task and number of the clip, in base64; `note` says what is missing."""

    kind: str  # their media type
    clips: dict[str, dict[int, str]] = field(default_factory=dict)
    note: str = ""
    beside: dict[str, Beside] = field(default_factory=dict)  # by task: the files of all its clips


def hardest_sounds(found: Mapping[str, TaskClips], count: int, folders: Sequence[Path]) -> Sounds:
    """Encode the `count` clips of each task that the fewest seeds of all encoders got right.

    `folders` are task directories or hold some. At most `MOST_S` seconds of a clip and `MOST_BYTES`
    in all: the hardest of every task come first, then the second hardest, and so on. What has no
    audio there is said in the note.
    """
    opus = _writes_opus()
    kind = "audio/ogg" if opus else "audio/wav"
    missing = []
    tasks: dict[str, tuple[Task, list[int]]] = {}
    for name, own in found.items():
        if own.restricted:
            continue
        task = _task(name, folders)
        if task is None:
            missing.append(name)
        else:
            order = np.argsort(own.difficulty(), kind="stable")[:count]
            tasks[name] = task, order.tolist()
    sounds: dict[str, dict[int, str]] = {}
    total, cut = 0, False
    for place in range(count):
        for name, (task, hardest) in tasks.items():
            if place >= len(hardest) or cut:
                continue
            clip = hardest[place]
            own = found[name]
            text = _encoded(task, own.splits[clip], own.names[clip], opus=opus)
            if text is None:
                missing.append(f"{name}/{own.names[clip]}")
                continue
            cut = total + len(text) > MOST_BYTES
            if not cut:
                total += len(text)
                sounds.setdefault(name, {})[clip] = text
    return Sounds(kind, sounds, _note(missing, cut))


def sounds_beside(found: Mapping[str, TaskClips], page_folder: Path) -> dict[str, Beside]:
    """Return where audio lies below `AUDIO_FOLDER` in the page's folder, by task; not restricted.

    Of several rates the lowest one that keeps the band of 16 kHz is heard. A task whose first clip
    is not there is left out.
    """
    sounds = {}
    for name, own in found.items():
        if own.restricted or not own.names or not (page_folder / AUDIO_FOLDER / name).is_dir():
            continue
        task = page_folder / AUDIO_FOLDER / name
        for rate in _to_be_heard(int(one.name) for one in task.iterdir() if one.name.isdecimal()):
            folder = f"{AUDIO_FOLDER}/{name}/{rate}"
            if (page_folder / folder / own.splits[0] / own.names[0]).is_file():
                runs = [(split, len(list(clips))) for split, clips in groupby(own.splits)]
                sounds[name] = Beside(folder, runs)
                break
    return sounds


def _to_be_heard(rates: Iterable[int]) -> list[int]:
    """Return rates in order of choice: the lowest that keeps the band, else the highest."""
    return sorted(rates, key=lambda rate: (rate < _RATE_HZ, abs(rate - _RATE_HZ)))


def _note(missing: Sequence[str], cut: bool) -> str:
    parts = []
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        parts.append(f"No sound found of {', '.join(missing[:3])}{more} (--tasks DIR says where).")
    if cut:
        parts.append(f"Sounds end at {MOST_BYTES // 1_000_000} MB.")
    return " ".join(parts)


def _task(name: str, folders: Iterable[Path]) -> Task | None:
    for folder in folders:
        for place in (folder / name, folder):
            if place.name == name and (place / "task_metadata.json").is_file():
                try:
                    return load_task(place)
                except DataError:
                    continue
    return None


def _encoded(task: Task, split: str, name: str, *, opus: bool) -> str | None:
    """Return one clip's sound in base64; None where there is none."""
    clip = next((clip for clip in task.clips.get(split, ()) if clip.name == name), None)
    try:
        samples, rate = (None, 0) if clip is None else _samples(task, split, clip)
    except DataError:
        return None
    if samples is None or not len(samples):
        return None
    import soundfile
    import soxr

    sound = soxr.resample(samples, rate, _RATE_HZ) if rate != _RATE_HZ else samples
    sound = np.clip(sound[: int(MOST_S * _RATE_HZ)], -1, 1)
    file = io.BytesIO()
    form, subtype = ("OGG", "OPUS") if opus else ("WAV", "PCM_16")
    soundfile.write(file, sound, _RATE_HZ, format=form, subtype=subtype)
    return base64.b64encode(file.getvalue()).decode()


def _samples(task: Task, split: str, clip: Clip) -> tuple[npt.NDArray[np.float32] | None, int]:
    """Return the first `MOST_S` seconds, mono float32 [n_samples], and their rate."""
    start, seconds = 0.0, MOST_S
    if clip.source is not None:
        path = find_file(clip.source.path)
        start, seconds = clip.source.start_s, min(MOST_S, clip.source.duration_s or MOST_S)
    else:
        rates = _to_be_heard(task.sample_rates_hz)
        if not rates:
            return None, 0
        path = clip_path(task, rates[0], split, clip.name)
    audio = read_audio(path)
    first = int(start * audio.sample_rate_hz)
    end = first + int(seconds * audio.sample_rate_hz)
    return audio.samples[first:end].mean(axis=1), audio.sample_rate_hz


def _writes_opus() -> bool:
    import soundfile

    return bool(soundfile.check_format("OGG", "OPUS"))
