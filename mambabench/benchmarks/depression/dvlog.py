"""D-Vlog: 961 vlogs as facial landmarks and acoustic descriptors, about one row per second.

Source: Yoon et al., "D-Vlog: Multimodal Vlog Dataset for Depression Detection" (AAAI 2022), with
the corpus's own split file. Labels are self-presentation in a video's title and text.
"""

from __future__ import annotations

from pathlib import Path

from mambabench.benchmarks.depression.sessions import (
    FeatureCorpus,
    Session,
    read_speakers,
    read_table,
)
from mambabench.errors import DataError

__all__ = ["CORPUS", "read_sessions"]

_LABELS = {"depression": 1, "normal": 0}


def read_sessions(root: Path) -> tuple[Session, ...]:
    """Read labels.csv: columns index (or video_id), label, duration, gender, fold."""
    path = root / "labels.csv"
    rows = read_table(path, ("label", "duration", "gender", "fold"))
    speakers = read_speakers(root)
    sessions = []
    for line, row in enumerate(rows, start=2):
        name = row.get("index", row.get("video_id", ""))
        if not name:
            raise DataError(f"{path}, line {line}: no index (or video_id)")
        if row["label"] not in _LABELS:
            raise DataError(f"{path}, line {line}: label {row['label']!r} is no depression|normal")
        sessions.append(
            Session(
                name=name,
                split=row["fold"],
                label=_LABELS[row["label"]],
                gender=row["gender"] or None,
                duration_s=float(row["duration"]) if row["duration"] else None,
                speaker=speakers.get(name),
            )
        )
    return tuple(sessions)


def _files(root: Path, session: Session) -> tuple[Path, Path]:
    folder = root / session.name
    return folder / f"{session.name}_visual.npy", folder / f"{session.name}_acoustic.npy"


CORPUS = FeatureCorpus(
    name="dvlog",
    video_size=136,
    audio_size=25,
    min_crop=500,
    counts={"train": (647, 375), "valid": (102, 57), "test": (212, 123)},
    read_sessions=read_sessions,
    feature_files=_files,
)
