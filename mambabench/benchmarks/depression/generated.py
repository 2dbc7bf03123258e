"""A generated corpus in D-Vlog's layout whose label needs both streams; for tests and recipes.

Every session carries one of two patterns in its landmarks and one of two in its acoustics; the
label is whether they agree, so that neither stream alone tells anything about it.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from mambabench.benchmarks.depression.dvlog import read_sessions
from mambabench.benchmarks.depression.sessions import FeatureCorpus, Session
from mambabench.files import write_bytes

__all__ = ["AUDIO_SIZE", "CORPUS", "VIDEO_SIZE", "generate"]

VIDEO_SIZE, AUDIO_SIZE = 136, 25
_SPLITS = (("train", 240), ("valid", 80), ("test", 200))


def generate(root: Path, seed: int = 0) -> None:
    """Write the corpus below `root`, labels.csv last; equal seeds give equal bytes.

    Two sessions of one speaker follow each other, and no speaker stands in two splits.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    video_pattern = rng.standard_normal((2, VIDEO_SIZE))
    audio_pattern = rng.standard_normal((2, AUDIO_SIZE))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("index", "label", "duration", "gender", "fold"))
    speakers = ["index,speaker"]
    index = 0
    for split, count in _SPLITS:
        # all four combinations equally often, so that no stream alone carries the label
        kinds = rng.permutation(np.arange(count) % 4)
        for kind in kinds:
            video_kind, audio_kind = int(kind) // 2, int(kind) % 2
            frames = int(rng.integers(12, 24))
            video = rng.standard_normal((frames, VIDEO_SIZE)) + video_pattern[video_kind]
            audio = rng.standard_normal((frames + 1, AUDIO_SIZE)) + audio_pattern[audio_kind]
            folder = root / str(index)
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"{index}_visual.npy", video.astype(np.float32))
            np.save(folder / f"{index}_acoustic.npy", audio.astype(np.float32))
            label = "depression" if video_kind == audio_kind else "normal"
            speaker = index // 2
            gender = "f" if speaker % 2 else "m"
            rows.writerow((index, label, float(frames), gender, split))
            speakers.append(f"{index},{speaker}")
            index += 1
    write_bytes(root / "speakers.csv", ("\n".join(speakers) + "\n").encode())
    write_bytes(root / "labels.csv", text.getvalue().encode())


def _files(root: Path, session: Session) -> tuple[Path, Path]:
    folder = root / session.name
    return folder / f"{session.name}_visual.npy", folder / f"{session.name}_acoustic.npy"


CORPUS = FeatureCorpus(
    name="generated",
    video_size=VIDEO_SIZE,
    audio_size=AUDIO_SIZE,
    min_crop=12,
    counts={split: (count, count // 2) for split, count in _SPLITS},
    read_sessions=read_sessions,
    feature_files=_files,
    restricted=False,
)
