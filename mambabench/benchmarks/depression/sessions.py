"""Sessions of a depression corpus, their feature sequences, and how splits and crops are made."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mambabench.errors import DataError, ProtocolError, nearest_names
from mambabench.reading.arrays import read_array
from mambabench.reading.tables import TableRow, read_table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "FeatureCorpus",
    "Session",
    "check_counts",
    "check_sessions",
    "crops",
    "make_split",
    "read_speakers",
    "select",
]

SPLITS = ("train", "valid", "test")
GENDERS = ("both", "f", "m")


@dataclass(frozen=True)
class Session:
    """One recording of one person with its label; what is not known is None."""

    name: str
    split: str  # train, valid or test
    label: int  # 1: depressed
    gender: str | None = None  # f or m
    duration_s: float | None = None
    speaker: str | None = None
    score: float | None = None  # severity, e.g. PHQ-8

    @property
    def cluster(self) -> str:
        """What sessions of one person share; the session itself where persons are unknown."""
        return self.speaker if self.speaker is not None else self.name


@dataclass(frozen=True)
class FeatureCorpus:
    """A corpus that is distributed as two aligned feature sequences per session."""

    name: str
    video_size: int
    audio_size: int
    min_crop: int  # frames; shorter training crops are thrown away
    counts: dict[str, tuple[int, int]]  # split -> (sessions, of them positive), as published
    read_sessions: Callable[[Path], tuple[Session, ...]]
    feature_files: Callable[[Path, Session], tuple[Path, Path]]  # video, audio
    known_missing: tuple[str, ...] = ()  # listed in the labels, but not distributed
    restricted: bool = True

    def missing(self, root: Path, sessions: Iterable[Session]) -> tuple[str, ...]:
        """Return the names of sessions of which a feature file is absent."""
        return tuple(
            s.name
            for s in sessions
            if not all(path.is_file() for path in self.feature_files(root, s))
        )

    def features(self, root: Path, session: Session) -> npt.NDArray[np.float32]:
        """Return [frames, video + audio] float32, cut to the shorter stream.

        Raises DataError for a missing file, a wrong width or a value that is not finite.
        """
        import numpy as np

        parts = []
        sizes = (self.video_size, self.audio_size)
        for path, width in zip(self.feature_files(root, session), sizes, strict=True):
            if not path.is_file():
                raise DataError(f"{path} is missing; session {session.name} is in labels.csv")
            values = read_array(path, remedy=f"copy session {session.name} again")
            if values.ndim != 2 or values.shape[1] != width or len(values) == 0:
                raise DataError(f"{path}: shape {values.shape} instead of (frames, {width})")
            parts.append(values)
        n = min(len(part) for part in parts)
        joined = np.concatenate([part[:n] for part in parts], axis=1).astype(np.float32)
        if not np.isfinite(joined).all():
            row = int(np.flatnonzero(~np.isfinite(joined).all(1))[0])
            raise DataError(f"session {session.name}: frame {row} holds NaN or infinity")
        return joined


def check_sessions(sessions: Sequence[tuple[TableRow, Session]]) -> tuple[Session, ...]:
    """Return the sessions of a corpus's rows; DataError where one stands there twice."""
    first: dict[str, TableRow] = {}
    for row, session in sessions:
        other = first.setdefault(session.name, row)
        if other is not row:
            raise DataError(
                f"{row.where}: session {session.name} stands there twice (also {other.where}); "
                "keep one row: a session in two splits would be trained and tested on"
            )
    return tuple(session for _, session in sessions)


def read_speakers(root: Path) -> dict[str, str]:
    """Return session -> speaker from an optional speakers.csv (columns index, speaker)."""
    path = root / "speakers.csv"
    if not path.is_file():
        return {}
    rows = read_table(path, ("index", "speaker"))
    return {row.name("index"): row.name("speaker") for row in rows}


def check_counts(corpus: FeatureCorpus, sessions: Sequence[Session]) -> tuple[str, ...]:
    """Return what differs from the published counts, one line each."""
    faults = []
    for split, (n, positive) in corpus.counts.items():
        here = [s for s in sessions if s.split == split]
        found = (len(here), sum(s.label for s in here))
        if found != (n, positive):
            faults.append(
                f"{corpus.name} {split}: {found[0]} sessions ({found[1]} positive) "
                f"instead of {n} ({positive})"
            )
    return tuple(faults)


def select(sessions: Iterable[Session], split: str, gender: str = "both") -> tuple[Session, ...]:
    """Return the sessions of a split and a gender, in order.

    Sessions whose gender is not known are kept: a corpus without genders is never filtered.
    """
    if split not in SPLITS:
        raise ProtocolError(f"no split {split!r}{nearest_names(split, SPLITS)}")
    if gender not in GENDERS:
        raise ProtocolError(f"gender must be both, f or m, not {gender!r}")
    wanted = (None, gender)
    return tuple(
        s for s in sessions if s.split == split and (gender == "both" or s.gender in wanted)
    )


def crops(n_frames: int, rng: random.Random, minimum: int, tries: int = 5) -> list[slice]:
    """Draw up to `tries` random crops as the published training does.

    Each try draws a length below `n_frames`; below `minimum` it is dropped, otherwise a start in
    [1, n_frames - length] follows.
    """
    out = []
    for _ in range(tries):
        length = int(rng.random() * n_frames)
        if length < minimum:
            continue
        start = rng.randint(1, n_frames - length)
        out.append(slice(start, start + length))
    return out


def make_split(
    sessions: Sequence[Session], seed: int, shares: tuple[float, float, float] = (0.7, 0.1, 0.2)
) -> tuple[Session, ...]:
    """Return the sessions in new splits in which no speaker appears twice.

    Clusters (speakers, or sessions where speakers are unknown) are shuffled by `seed` within strata
    of their label, and dealt to the split that lacks most sessions of its share.
    """
    clusters: dict[str, list[Session]] = {}
    for session in sessions:
        clusters.setdefault(session.cluster, []).append(session)
    by_label: dict[int, list[str]] = {}
    for name in sorted(clusters):
        by_label.setdefault(max(s.label for s in clusters[name]), []).append(name)
    rng = random.Random(seed)
    split_of: dict[str, str] = {}
    for label in sorted(by_label):
        names = by_label[label]
        rng.shuffle(names)
        wanted = [share * sum(len(clusters[n]) for n in names) for share in shares]
        for name in names:
            split = max(range(len(SPLITS)), key=lambda i: wanted[i])
            wanted[split] -= len(clusters[name])
            split_of[name] = SPLITS[split]
    return tuple(replace(s, split=split_of[s.cluster]) for s in sessions)
