"""Read MOSI, MOSEI and CH-SIMS from the folder layout that MMSA uses.

    ROOT/label.csv                     video_id, clip_id, text, label[, label_T, label_A], mode
    ROOT/wav/<video_id>/<clip_id>.wav  16 kHz; CH-SIMS pads clip ids to four digits
    ROOT/Raw/<video_id>/<clip_id>.mp4  the videos, from which `extract_audio` makes the above

Order, text and context are those of the published MMML code (Wu et al., NAACL 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mambabench.errors import DataError
from mambabench.reading.audio import find_file
from mambabench.reading.audio import read_audio as decode_file
from mambabench.reading.tables import TableRow, read_table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "CORRUPT",
    "MAX_SAMPLES",
    "SAMPLE_RATE_HZ",
    "BrokenClip",
    "Context",
    "Utterance",
    "broken_clips",
    "context_of",
    "normalised",
    "of_split",
    "read_audio",
    "read_utterances",
    "wav_path",
]

SAMPLE_RATE_HZ = 16000
MAX_SAMPLES = 96000  # 6 s
SEPARATOR = "</s>"
MODES = ("train", "valid", "test")
CORRUPT = frozenset(  # clips of MOSEI whose audio is broken in the distributed files
    {
        ("3aIQUQgawaI", "12"),
        ("94ULum9MYX0", "2"),
        ("mRnEJOLkhp8", "24"),
        ("aE-X_QdDaqQ", "3"),
        ("94ULum9MYX0", "11"),
        ("mRnEJOLkhp8", "26"),
    }
)


@dataclass(frozen=True)
class Utterance:
    """One clip with its text and its labels: M multimodal, T text, A audio."""

    video: str
    clip: str  # as in the file name
    text: str
    split: str
    M: float
    T: float
    A: float

    @property
    def name(self) -> str:
        """File name of the clip without its suffix, unique in the corpus."""
        return f"{self.video}/{self.clip}"


@dataclass(frozen=True)
class Context:
    """The utterances before one: their text, joined, and their clips, oldest first."""

    text: str
    audio: tuple[Utterance, ...]


@dataclass(frozen=True)
class BrokenClip:
    """A clip that cannot be used, and why."""

    name: str
    reason: str


def read_utterances(root: Path, dataset: str) -> tuple[Utterance, ...]:
    """Return the utterances of label.csv in the order of the published code.

    English sets are sorted by video and by clip number, their text is lower-cased after the first
    character, and one label serves all three heads; CH-SIMS keeps the file's order, its raw text
    and its three labels. Raises DataError with the line of what is wrong.
    """
    path = root / "label.csv"
    if not path.is_file():
        raise DataError(
            f"{path} is missing; it comes with MMSA's copy of the dataset (columns video_id, "
            "clip_id, text, label, mode), not with the original download"
        )
    sims = dataset == "sims"
    needed = ["video_id", "clip_id", "text", "label", "mode"]
    needed += ["label_T", "label_A"] if sims else []
    items = [
        _utterance(row, sims=sims)
        for row in read_table(path, needed, strip=False)
        if sims or (row["video_id"], row["clip_id"]) not in CORRUPT
    ]
    if not sims:
        items.sort(key=lambda item: (item.video, float(item.clip)))
    names = [item.name for item in items]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path}: clip {twice} is listed twice")
    return tuple(items)


def _utterance(row: TableRow, *, sims: bool) -> Utterance:
    top = 1.0 if sims else 3.0

    def sentiment(column: str) -> float:
        return row.number(column, low=-top, high=top, what="sentiment")

    label = sentiment("label")
    text_label, audio_label = (sentiment("label_T"), sentiment("label_A")) if sims else (label,) * 2
    number, clip = row.number("clip_id", low=0), row["clip_id"].strip()
    text = row["text"]
    return Utterance(
        video=row.name("video_id"),
        clip=f"{int(number):04d}" if sims else clip,
        text=text if sims else text[:1] + text[1:].lower(),
        split=row.choice("mode", MODES),
        M=label,
        T=text_label,
        A=audio_label,
    )


def of_split(items: Sequence[Utterance], split: str) -> tuple[Utterance, ...]:
    """Return the utterances of a split, in order."""
    return tuple(item for item in items if item.split == split)


def context_of(
    items: Sequence[Utterance], index: int, n_texts: int = 2, n_clips: int = 1
) -> Context:
    """Return what precedes ``items[index]`` in the same video; `items` are those of one split."""

    def before(n: int) -> tuple[Utterance, ...]:
        start = index
        while start > max(0, index - n) and items[start - 1].video == items[index].video:
            start -= 1
        return tuple(items[start:index])

    return Context(SEPARATOR.join(item.text for item in before(n_texts)), before(n_clips))


def wav_path(root: Path, item: Utterance) -> Path:
    """Return where the clip's audio lies."""
    return find_file(root / "wav" / item.video / f"{item.clip}.wav")


def read_audio(path: Path) -> npt.NDArray[np.float32]:
    """Return the mean of the channels at 16 kHz, [n_samples] float32."""
    import soxr

    try:
        audio = decode_file(path)
    except DataError as error:
        raise DataError(f"{path} {error}") from error
    rate = audio.sample_rate_hz
    mono: npt.NDArray[np.float32] = audio.samples.mean(axis=1)
    if rate != SAMPLE_RATE_HZ:
        mono = soxr.resample(mono, rate, SAMPLE_RATE_HZ, quality="HQ")
    return mono


def normalised(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the first 6 s with mean 0 and variance 1, as the audio backbones expect."""
    import numpy as np

    samples = samples[:MAX_SAMPLES]
    if len(samples) == 0:
        return samples
    scaled = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    return np.asarray(scaled, np.float32)


def broken_clips(root: Path, items: Sequence[Utterance]) -> tuple[BrokenClip, ...]:
    """Return every clip whose audio is missing, unreadable, empty or not finite."""
    import numpy as np

    broken = []
    for item in items:
        path = wav_path(root, item)
        if not path.is_file():
            broken.append(BrokenClip(item.name, f"{path} is missing"))
            continue
        try:
            samples = read_audio(path)
        except DataError as error:
            broken.append(BrokenClip(item.name, str(error)))
            continue
        if len(samples) == 0:
            broken.append(BrokenClip(item.name, f"{path} holds no samples"))
        elif not np.isfinite(samples).all():
            broken.append(BrokenClip(item.name, f"{path} holds NaN or infinity"))
    return tuple(broken)
