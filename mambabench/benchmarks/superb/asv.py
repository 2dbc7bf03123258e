"""Speaker verification (ASV): VoxCeleb1, cosine scores of x-vectors, equal error rate.

Source: s3prl 0.4.18, downstream `sv_voxceleb1`; SUPERB (Yang et al. 2021), table 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.superb.sources import (
    Corpus,
    Defect,
    SourceClip,
    audio_files,
    missing_files,
    read_lines,
    require_folder,
)
from mambabench.errors import DataError

__all__ = ["GAIN_DB", "MIN_SAMPLES", "Trial", "check", "read", "read_trials", "trim_silence"]

FOLDER = "VoxCeleb1"
TRIALS = "voxceleb1_test_v2.txt"
N_TRIALS, N_TARGET, N_TEST_FILES, N_TRAIN_SPEAKERS = 37_720, 18_860, 4_715, 1_211
GAIN_DB = -3.0
MIN_SAMPLES = 32_000  # shorter training clips (after trimming) are dropped
CROP_S = 8.0
_REMEDY = (
    f"unpack VoxCeleb1 so that {FOLDER}/dev/wav and {FOLDER}/test/wav lie in the corpus folder, "
    f"and put the owners' cleaned trial list there as {TRIALS}"
)


@dataclass(frozen=True)
class Trial:
    """One verification trial: are both clips of the same speaker?"""

    same: bool
    first: str  # clip name
    second: str


def read_trials(path: Path) -> tuple[Trial, ...]:
    """Read lines "1|0 id/video/a.wav id/video/b.wav"; DataError names a line of another form."""
    trials = []
    for number, line in enumerate(read_lines(path, _REMEDY), start=1):
        parts = line.split()
        if len(parts) != 3 or parts[0] not in ("0", "1"):
            raise DataError(f"{path}, line {number}: {line!r} is not '1|0 file file'")
        first, second = (part.replace("/", "__") for part in parts[1:])
        trials.append(Trial(parts[0] == "1", first, second))
    return tuple(trials)


def read(root: Path) -> Corpus:
    """Read `root`: training speakers from VoxCeleb1/dev/wav, test clips from the trial list."""
    train = require_folder(root / FOLDER / "dev" / "wav", "VoxCeleb1's development part", _REMEDY)
    clips = [
        SourceClip(
            "__".join(path.parts[-3:]),
            path.relative_to(root).as_posix(),
            (path.parts[-3],),
            cluster=path.parts[-3],
            gain_db=GAIN_DB,
        )
        for path in audio_files(train, "*/*/*")
    ]
    names = sorted({n for t in read_trials(root / TRIALS) for n in (t.first, t.second)})
    tests = tuple(
        SourceClip(
            name,
            f"{FOLDER}/test/wav/{name.replace('__', '/')}",
            (),  # test speakers are in no vocabulary; the cluster names them
            cluster=name.partition("__")[0],
            gain_db=GAIN_DB,
        )
        for name in names
    )
    labels = tuple(dict.fromkeys(clip.labels[0] for clip in clips))
    return Corpus("superb_asv", {"train": tuple(clips), "test": tests}, labels)


def trim_silence(
    samples: npt.NDArray[np.float32], rate_hz: int, threshold: float = 1e-3
) -> npt.NDArray[np.float32]:
    """Cut silence from both ends and shorten inner silences, as a plain amplitude gate.

    Stands in for ``silence 1 0.1 0.1% -1 0.1 0.1%`` of SoX: blocks of 0.1 s whose root mean square
    is below 0.1 % of full scale are dropped. SoX's own running window can differ by one block.
    `samples` is [n] in [-1, 1]; an all-silent clip comes back empty.
    """
    block = max(1, rate_hz // 10)
    n_blocks = -(-len(samples) // block)
    padded = np.pad(samples.astype(np.float64), (0, n_blocks * block - len(samples)))
    loud = np.sqrt((padded.reshape(n_blocks, block) ** 2).mean(axis=1)) >= threshold
    kept: npt.NDArray[np.float32] = samples[np.repeat(loud, block)[: len(samples)]]
    return kept


def check(root: Path) -> tuple[Defect, ...]:
    """List missing files, and trials or speakers of another number than published."""
    corpus = read(root)
    trials = read_trials(root / TRIALS)
    found = {
        "trials": (len(trials), N_TRIALS),
        "target trials": (sum(trial.same for trial in trials), N_TARGET),
        "test files": (len(corpus.splits["test"]), N_TEST_FILES),
        "training speakers": (len(corpus.labels), N_TRAIN_SPEAKERS),
    }
    wrong = tuple(
        Defect(what, f"{count:,}, published {expected:,}", _REMEDY)
        for what, (count, expected) in found.items()
        if count != expected
    )
    return missing_files(root, corpus.splits["test"], _REMEDY) + wrong
