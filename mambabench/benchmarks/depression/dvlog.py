"""D-Vlog: 961 vlogs as facial landmarks and acoustic descriptors, about one row per second.

Source: Yoon et al., "D-Vlog: Multimodal Vlog Dataset for Depression Detection" (AAAI 2022), with
the corpus's own split file. Labels are self-presentation in a video's title and text.
"""

from __future__ import annotations

from pathlib import Path

from mambabench.benchmarks.depression.sessions import (
    SPLITS,
    FeatureCorpus,
    Session,
    check_sessions,
    read_speakers,
)
from mambabench.errors import DataError
from mambabench.reading.tables import read_table

__all__ = ["CORPUS", "read_sessions"]

_LABELS = {"depression": 1, "normal": 0}


def read_sessions(root: Path) -> tuple[Session, ...]:
    """Read labels.csv: columns index (or video_id), label, duration, gender, fold."""
    path = root / "labels.csv"
    rows = read_table(path, ("label", "duration", "gender", "fold"))
    speakers = read_speakers(root)
    sessions = []
    for row in rows:
        column = "index" if "index" in row else "video_id"
        if column not in row:
            raise DataError(f"{path}: no column index (or video_id) in {', '.join(row)}")
        name = row.name(column)
        session = Session(
            name=name,
            split=row.choice("fold", SPLITS),
            label=_LABELS[row.choice("label", tuple(_LABELS))],
            gender=row["gender"] or None,
            duration_s=row.optional_number("duration", low=0),
            speaker=speakers.get(name),
        )
        sessions.append((row, session))
    return check_sessions(sessions)


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
