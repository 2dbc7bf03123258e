"""LMVD: 1823 vlog clips as facial landmarks and VGGish embeddings.

Source: He et al., "LMVD: A Large-Scale Multimodal Vlog Dataset for Depression Detection in the
Wild" (2024), with the split file of the DepMamba repository. Neither speakers nor genders are
published, so that no split can be shown to be disjoint in speakers.
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


def read_sessions(root: Path) -> tuple[Session, ...]:
    """Read labels.csv (or lmvd_labels.csv): columns index, label (0 or 1), fold."""
    path = root / "labels.csv"
    if not path.is_file() and (root / "lmvd_labels.csv").is_file():
        path = root / "lmvd_labels.csv"
    speakers = read_speakers(root)
    sessions = []
    for line, row in enumerate(read_table(path, ("index", "label", "fold")), start=2):
        if row["label"] not in ("0", "1"):
            raise DataError(f"{path}, line {line}: label {row['label']!r} is neither 0 nor 1")
        name = row["index"]
        sessions.append(Session(name, row["fold"], int(row["label"]), speaker=speakers.get(name)))
    return tuple(sessions)


def _files(root: Path, session: Session) -> tuple[Path, Path]:
    name = session.name
    return root / "visual" / f"{name}_visual.npy", root / "audio" / f"{name}.npy"


CORPUS = FeatureCorpus(
    name="lmvd",
    video_size=136,
    audio_size=128,
    min_crop=400,
    counts={"train": (1458, 728), "valid": (182, 89), "test": (183, 91)},
    read_sessions=read_sessions,
    feature_files=_files,
    known_missing=("0711", "0814", "0841", "0973", "1041", "1287"),
    restricted=False,
)
