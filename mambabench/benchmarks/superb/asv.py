"""Speaker verification (ASV): VoxCeleb1, cosine scores of x-vectors, equal error rate.

Source: s3prl 0.4.18, downstream `sv_voxceleb1`; SUPERB (Yang et al. 2021), table 1.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mambabench.benchmarks.layout.silence import trim_silence
from mambabench.benchmarks.superb.sources import (
    Corpus,
    CorpusDefect,
    SourceClip,
    audio_files,
    missing_files,
    read_lines,
    require_folder,
)
from mambabench.errors import DataError

__all__ = ["GAIN_DB", "MIN_SAMPLES", "SpeakerPair", "check", "read", "read_trials"]

FOLDER = "VoxCeleb1"
TRIALS = "voxceleb1_test_v2.txt"
N_TRIALS, N_TARGET, N_TEST_FILES, N_TRAIN_SPEAKERS = 37_720, 18_860, 4_715, 1_211
GAIN_DB = -3.0
MIN_SAMPLES = 32_000  # at 16 kHz: training clips of no more than that after trimming are dropped
CROP_S = 8.0  # s3prl crops longer training clips to 128,000 samples, anew at every load
STORED_CROPS = 4
_RATE_HZ = 16_000
_REMEDY = (
    f"unpack VoxCeleb1 so that {FOLDER}/dev/wav and {FOLDER}/test/wav lie in the corpus folder, "
    f"and put the owners' cleaned trial list there as {TRIALS}"
)


@dataclass(frozen=True)
class SpeakerPair:
    """One verification trial: are both clips of the same speaker?"""

    same: bool
    first: str  # clip name
    second: str


def read_trials(path: Path) -> tuple[SpeakerPair, ...]:
    """Read lines "1|0 id/video/a.wav id/video/b.wav"; DataError names a line of another form."""
    trials = []
    for number, line in enumerate(read_lines(path, _REMEDY), start=1):
        parts = line.split()
        if len(parts) != 3 or parts[0] not in ("0", "1"):
            raise DataError(f"{path}, line {number}: {line!r} is not '1|0 file file'")
        first, second = (part.replace("/", "__") for part in parts[1:])
        trials.append(SpeakerPair(parts[0] == "1", first, second))
    return tuple(trials)


def read(root: Path) -> Corpus:
    """Read `root`: training speakers from VoxCeleb1/dev/wav, test clips from the trial list.

    Every training file is read and trimmed once, to drop those that are too short and to draw the
    crops of those over 8 s, as s3prl does at its first start. A speaker that has no clip left stays
    in the vocabulary.
    """
    corpus = _listed(root)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        lengths = list(pool.map(lambda c: _trimmed_samples(root / c.path), corpus.splits["train"]))
    kept = [
        crop
        for clip, n_samples in zip(corpus.splits["train"], lengths, strict=True)
        for crop in _crops(clip, n_samples)
    ]
    tests = _with_lengths(root, corpus.splits["test"])
    n_dropped = sum(n_samples <= MIN_SAMPLES for n_samples in lengths)
    note = f"training clips of at most 2 s after trimming, left out: {n_dropped:,}"
    return replace(corpus, splits={"train": tuple(kept), "test": tests}, notes=(note,))


def _crops(clip: SourceClip, n_samples: int) -> list[SourceClip]:
    """Return the clip, or `STORED_CROPS` crops of 8 s of its trimmed samples; none if too short."""
    if n_samples <= MIN_SAMPLES:
        return []
    longest = round(CROP_S * _RATE_HZ)
    if n_samples <= longest:
        return [replace(clip, n_samples=n_samples)]
    generator = np.random.default_rng([ord(letter) for letter in clip.name])
    starts = generator.integers(0, n_samples - longest + 1, STORED_CROPS)
    return [
        replace(
            clip,
            name=f"{clip.name}#{crop}",
            start_s=int(start) / _RATE_HZ,
            duration_s=CROP_S,
            crop_of=clip.name,
            n_samples=longest,
        )
        for crop, start in enumerate(starts)
    ]


def _with_lengths(root: Path, clips: Sequence[SourceClip]) -> tuple[SourceClip, ...]:
    """Give the clips that exist their trimmed lengths."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = pool.map(
            lambda c: _trimmed_samples(root / c.path) if (root / c.path).is_file() else None, clips
        )
    return tuple(replace(clip, n_samples=n) for clip, n in zip(clips, found, strict=True))


def _trimmed_samples(path: Path) -> int:
    """Return the samples at 16 kHz that gain and silence gate leave of a file."""
    import soundfile

    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise DataError(f"{path}: cannot be read ({error}); restore the file") from error
    mono = samples.mean(axis=1, dtype=np.float32) * np.float32(10.0 ** (GAIN_DB / 20.0))
    n_samples: int = len(trim_silence(mono, rate))
    return round(n_samples * _RATE_HZ / int(rate))


def _listed(root: Path) -> Corpus:
    """List the corpus without opening its audio."""
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


def check(root: Path) -> tuple[CorpusDefect, ...]:
    """List missing files, and trials or speakers of another number than published."""
    corpus = _listed(root)
    trials = read_trials(root / TRIALS)
    found = {
        "trials": (len(trials), N_TRIALS),
        "target trials": (sum(trial.same for trial in trials), N_TARGET),
        "test files": (len(corpus.splits["test"]), N_TEST_FILES),
        "training speakers": (len(corpus.labels), N_TRAIN_SPEAKERS),
    }
    wrong = tuple(
        CorpusDefect(what, f"{count:,}, published {expected:,}", _REMEDY)
        for what, (count, expected) in found.items()
        if count != expected
    )
    return missing_files(root, corpus.splits["test"], _REMEDY) + wrong
