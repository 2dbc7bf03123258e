"""LMVD: 1823 vlog clips as facial landmarks and VGGish embeddings.

Source: He et al., "LMVD: A Large-Scale Multimodal Vlog Dataset for Depression Detection in the
Wild" (2024), with the split file of the DepMamba repository. Neither speakers nor genders are
published, so that no split can be shown to be disjoint in speakers.
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
from mambabench.reading.tables import read_table

__all__ = ["CORPUS", "read_sessions"]


def read_sessions(root: Path) -> tuple[Session, ...]:
    """Read labels.csv (or lmvd_labels.csv): columns index, label (0 or 1), fold."""
    path = root / "labels.csv"
    if not path.is_file() and (root / "lmvd_labels.csv").is_file():
        path = root / "lmvd_labels.csv"
    speakers = read_speakers(root)
    sessions = []
    for row in read_table(path, ("index", "label", "fold")):
        name, label = row.name("index"), int(row.choice("label", ("0", "1")))
        split = row.choice("fold", SPLITS)
        sessions.append((row, Session(name, split, label, speaker=speakers.get(name))))
    return check_sessions(sessions)


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
