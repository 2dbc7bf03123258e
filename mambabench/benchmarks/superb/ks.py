"""Keyword spotting (KS): Speech Commands v0.01, twelve classes.

Source: s3prl 0.4.18, downstream `speech_commands`; SUPERB (Yang et al. 2021), table 1.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from mambabench.benchmarks.superb.sources import (
    Corpus,
    CorpusDefect,
    SourceClip,
    audio_files,
    count_defects,
    length_s,
    require_folder,
)

__all__ = ["CLASSES", "PUBLISHED_COUNTS", "check", "read", "split_of"]

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
CLASSES = (*WORDS, "_unknown_", "_silence_")
# the published 51,094 of train counts the six noise files too, which read() stores as crops;
# validation's 6,798 does not
NOISE_FILES = 6
PUBLISHED_COUNTS = {"train": 51_094 - NOISE_FILES, "valid": 6_798, "test": 3_081}
TRAIN_FOLDER = "speech_commands_v0.01"
TEST_FOLDER = "speech_commands_test_set_v0.01"
NOISE_FOLDER = "_background_noise_"
GAIN_DB = -3.0  # applied at every load by s3prl
SILENCE_CROPS = 16  # stored 1 s crops a noise file, where s3prl draws one anew at every step
_BUCKETS = 2**27  # of the dataset's own hash rule, minus one in the scale
_REMEDY = "unpack the dataset's two archives (v0.01 and its test set) side by side"


def split_of(file_name: str) -> str | None:
    """Return "valid", "train" or None (official test part, dropped) for a file name.

    The dataset's rule: SHA-1 of the name before ``_nohash_``, modulo 2^27, as a percentage; below
    10 is validation, below 20 is dropped.
    """
    speaker = file_name.partition("_nohash_")[0]
    digest = int(hashlib.sha1(speaker.encode()).hexdigest(), 16)
    percent = (digest % _BUCKETS) * (100.0 / (_BUCKETS - 1))
    if percent < 10:
        return "valid"
    return None if percent < 20 else "train"


def _silence(root: Path, split: str) -> list[SourceClip]:
    """Return the stored crops of the noise files, drawn from a generator of their own.

    s3prl puts the same noise files into train and validation and crops anew at every load; here
    each split gets its own `SILENCE_CROPS` crops a file, fixed by the split's name.
    """
    clips = []
    generator = np.random.default_rng([ord(letter) for letter in f"KS silence {split}"])
    for path in audio_files(root / TRAIN_FOLDER / NOISE_FOLDER, "*"):
        latest = max(length_s(path) - 1.0, 0.0)
        relative = path.relative_to(root).as_posix()
        for crop, start in enumerate(generator.uniform(0.0, latest, SILENCE_CROPS)):
            clips.append(
                SourceClip(
                    f"{split}-{path.stem}-{crop:02d}.wav",
                    relative,
                    ("_silence_",),
                    start_s=float(start),
                    duration_s=1.0,
                    gain_db=GAIN_DB,
                    crop_of=path.name,
                )
            )
    return clips


def read(root: Path) -> Corpus:
    """Read `root`, which holds the folders of both archives.

    Raises DataError where a folder is missing. Files are taken in sorted order.
    """
    train = require_folder(root / TRAIN_FOLDER, "the training part of KS", _REMEDY)
    test = require_folder(root / TEST_FOLDER, "the test part of KS", _REMEDY)
    splits: dict[str, list[SourceClip]] = {"train": [], "valid": [], "test": []}
    for path in audio_files(train, "*/*"):
        word = path.parent.name
        split = split_of(path.name)
        if word == NOISE_FOLDER or split is None:
            continue
        splits[split].append(_clip(root, path, word if word in WORDS else "_unknown_"))
    for split in ("train", "valid"):
        splits[split].extend(_silence(root, split))
    for path in audio_files(test, "*/*"):
        splits["test"].append(_clip(root, path, path.parent.name))
    return Corpus(
        "superb_ks",
        {split: tuple(clips) for split, clips in splits.items()},
        CLASSES,
    )


def _clip(root: Path, path: Path, label: str) -> SourceClip:
    relative = path.relative_to(root)
    return SourceClip(
        "__".join(relative.parts[1:]),
        relative.as_posix(),
        (label,),
        cluster=path.name.partition("_nohash_")[0],
        gain_db=GAIN_DB,
    )


def check(root: Path) -> tuple[CorpusDefect, ...]:
    """List what is missing or extra against the published counts."""
    corpus = read(root)
    words = {
        split: tuple(clip for clip in clips if clip.crop_of is None)
        for split, clips in corpus.splits.items()
    }
    noises = len(audio_files(root / TRAIN_FOLDER / NOISE_FOLDER, "*"))
    unknown = sorted({c.labels[0] for c in corpus.splits["test"]} - set(CLASSES))
    extra = tuple(
        CorpusDefect(f"{TEST_FOLDER}/{name}", "is not one of the twelve classes", _REMEDY)
        for name in unknown
    )
    if noises != NOISE_FILES:
        extra += (
            CorpusDefect(
                f"{TRAIN_FOLDER}/{NOISE_FOLDER}",
                f"{noises} noise files, published {NOISE_FILES}",
                _REMEDY,
            ),
        )
    return extra + count_defects(replace(corpus, splits=words), PUBLISHED_COUNTS, _REMEDY)
