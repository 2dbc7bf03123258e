"""What every SUPERB task reads its corpus into: clips that point into the user's own folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mambabench.errors import DataError
from mambabench.reading.audio import ENDINGS, duration_s, find_file, read_header
from mambabench.reading.text import read_text

__all__ = [
    "RATE_HZ",
    "Corpus",
    "CorpusDefect",
    "SourceClip",
    "SpokenTurn",
    "audio_files",
    "count_defects",
    "length_s",
    "missing_files",
    "once",
    "read_lines",
    "require_folder",
    "wrong_rates",
]

RATE_HZ = 16_000  # of every corpus


@dataclass(frozen=True)
class SpokenTurn:
    """One speaker's turn in a clip."""

    speaker: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class SourceClip:
    """One clip of a corpus: where its samples lie and what it is labelled with."""

    name: str  # unique within its split; becomes the clip's name in the store
    path: str  # of the audio file, relative to the corpus folder, with forward slashes
    labels: tuple[str, ...]  # one label, one per slot, or a sequence of phones
    cluster: str | None = None  # the speaker, where the corpus says so
    start_s: float = 0.0  # first second read
    duration_s: float | None = None  # seconds read; None: to the end
    gain_db: float = 0.0  # applied to the samples
    crop_of: str | None = None  # several stored crops of one clip carry the same clip's name
    n_samples: int | None = None  # of the clip at 16 kHz, where reading it took more than a header
    turns: tuple[SpokenTurn, ...] = ()  # of diarization: who speaks when


@dataclass(frozen=True)
class Corpus:
    """A corpus as it was read: its splits, label vocabulary and what must be said of it."""

    task: str
    splits: Mapping[str, tuple[SourceClip, ...]]
    labels: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())  # recorded with the task, shown by the report


@dataclass(frozen=True)
class CorpusDefect:
    """One thing wrong with a corpus folder, with its remedy."""

    where: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}; {self.remedy}"


def require_folder(folder: Path, what: str, remedy: str) -> Path:
    """Return `folder`; DataError naming it, what it should hold and the remedy if it is absent."""
    if not folder.is_dir():
        raise DataError(f"{folder}: {what} is missing; {remedy}")
    return folder


def read_lines(path: Path, remedy: str) -> list[str]:
    """Return the non-empty lines of a list file; DataError with the remedy if it is absent."""
    if not path.is_file():
        raise DataError(f"{path}: the list file is missing; {remedy}")
    lines = read_text(path, remedy=remedy).splitlines()
    return [line.strip() for line in lines if line.strip()]


def count_defects(
    corpus: Corpus, published: Mapping[str, int], remedy: str
) -> tuple[CorpusDefect, ...]:
    """Compare the number of distinct clips of each split with the published counts.

    Several stored crops of one clip count once.
    """
    found = {
        split: len({clip.crop_of or clip.name for clip in clips})
        for split, clips in corpus.splits.items()
    }
    return tuple(
        CorpusDefect(
            f"{corpus.task}/{split}",
            f"{found.get(split, 0):,} clips, published {expected:,}",
            remedy,
        )
        for split, expected in published.items()
        if found.get(split, 0) != expected
    )


def missing_files(root: Path, clips: Sequence[SourceClip], remedy: str) -> tuple[CorpusDefect, ...]:
    """Return one defect per listed audio file that is not below `root`."""
    return tuple(
        CorpusDefect(path, "listed, but there is no such file", remedy)
        for path in sorted({clip.path for clip in clips})
        if not find_file(root / path).is_file()
    )


def wrong_rates(root: Path, clips: Sequence[SourceClip], remedy: str) -> tuple[CorpusDefect, ...]:
    """Return one defect per audio file that is there and no audio at SUPERB's 16 kHz."""
    found = []
    for path in sorted({clip.path for clip in clips}):
        file = find_file(root / path)
        if not file.is_file():
            continue
        try:
            rate = read_header(file).sample_rate_hz
        except DataError as error:
            found.append(CorpusDefect(path, str(error), remedy))
            continue
        if rate != RATE_HZ:
            found.append(CorpusDefect(path, f"has {rate} Hz, SUPERB's is {RATE_HZ:,}", remedy))
    return tuple(found)


def once(names: Mapping[str, object], name: str, where: str, remedy: str) -> None:
    """Raise DataError, naming the line `where`, if `name` stood on another line before."""
    if name in names:
        raise DataError(f"{where}: {name!r} stands on another line too; {remedy}")


def audio_files(folder: Path, pattern: str) -> list[Path]:
    """Return the audio files of any ending that match `pattern`, sorted."""
    return sorted(path for path in folder.glob(pattern) if path.suffix.lower() in ENDINGS)


def length_s(path: Path) -> float:
    """Return the length of a file of the corpus in seconds; DataError names what has none."""
    try:
        return duration_s(path)
    except DataError as error:
        raise DataError(f"{path} {error}") from error
