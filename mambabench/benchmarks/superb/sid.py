"""Speaker identification (SID): VoxCeleb1, 1,251 speakers.

Source: s3prl 0.4.18, downstream `voxceleb1`; SUPERB (Yang et al. 2021), table 1. The list is the
dataset owners' identification split: lines "1|2|3 id/video/file.wav" for train, validation, test.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mambabench.benchmarks.superb.sources import (
    Corpus,
    CorpusDefect,
    SourceClip,
    count_defects,
    length_s,
    missing_files,
    read_lines,
    require_folder,
)
from mambabench.errors import DataError
from mambabench.reading.audio import find_file

__all__ = ["CROP_S", "LIST_NAMES", "PUBLISHED_COUNTS", "check", "read"]

FOLDER = "VoxCeleb1"
LIST_NAMES = ("veri_test_class.txt", "iden_split.txt")  # s3prl's name and the owners'
PUBLISHED_COUNTS = {"train": 138_361, "valid": 6_904, "test": 8_251}
N_SPEAKERS = 1_251
FIRST_SPEAKER = 10_001
CROP_S = 8.0  # s3prl crops longer training clips to 128,000 samples, anew at every load
STORED_CROPS = 4
_SPLITS = {"1": "train", "2": "valid", "3": "test"}
_REMEDY = (
    f"unpack VoxCeleb1 so that {FOLDER}/dev/wav and {FOLDER}/test/wav lie in the corpus folder, "
    f"and put the owners' identification split there as {LIST_NAMES[1]}"
)


def _list_path(root: Path) -> Path:
    for name in LIST_NAMES:
        if (root / name).is_file():
            return root / name
    return root / LIST_NAMES[1]


def _locate(root: Path, relative: str) -> str:
    """Return the path below `root`; the dev part where the file exists in neither."""
    for part in ("dev", "test"):
        candidate = f"{FOLDER}/{part}/wav/{relative}"
        if (root / candidate).is_file():
            return candidate
    return f"{FOLDER}/dev/wav/{relative}"


def _crops(root: Path, clip: SourceClip) -> list[SourceClip]:
    """Return `STORED_CROPS` crops of 8 s of a longer clip, else the clip itself."""
    path = find_file(root / clip.path)
    duration = length_s(path) if path.is_file() else 0.0
    if duration <= CROP_S:
        return [clip]
    generator = np.random.default_rng([ord(letter) for letter in clip.name])
    starts = generator.uniform(0.0, duration - CROP_S, STORED_CROPS)
    return [
        SourceClip(
            f"{clip.name}#{crop}",
            clip.path,
            clip.labels,
            cluster=clip.cluster,
            start_s=float(start),
            duration_s=CROP_S,
            crop_of=clip.name,
        )
        for crop, start in enumerate(starts)
    ]


def read(root: Path) -> Corpus:
    """Read `root`, which holds VoxCeleb1 and the split list.

    Raises DataError for a missing list, a line of another form or an id outside id10001..id11251.
    """
    require_folder(root / FOLDER, "VoxCeleb1", _REMEDY)
    path = _list_path(root)
    splits: dict[str, list[SourceClip]] = {split: [] for split in PUBLISHED_COUNTS}
    for number, line in enumerate(read_lines(path, _REMEDY), start=1):
        part, _, relative = line.partition(" ")
        speaker = relative.partition("/")[0]
        identity = speaker.removeprefix("id")
        if part not in _SPLITS or not identity.isdigit() or relative.count("/") != 2:
            raise DataError(
                f"{path}, line {number}: {line!r} is not '1|2|3 id/video/file.wav'; take the "
                "owners' list unchanged"
            )
        if not 0 <= int(identity) - FIRST_SPEAKER < N_SPEAKERS:
            raise DataError(f"{path}, line {number}: speaker {speaker} is not id10001..id11251")
        clip = SourceClip(
            relative.replace("/", "__"), _locate(root, relative), (speaker,), cluster=speaker
        )
        split = _SPLITS[part]
        splits[split].extend(_crops(root, clip) if split == "train" else [clip])
    labels = tuple(f"id{FIRST_SPEAKER + index}" for index in range(N_SPEAKERS))
    return Corpus(
        "superb_sid",
        {split: tuple(clips) for split, clips in splits.items()},
        labels,
    )


def check(root: Path) -> tuple[CorpusDefect, ...]:
    """List every listed file that is missing and every split of another size than published."""
    corpus = read(root)
    clips = [clip for split in corpus.splits.values() for clip in split]
    return missing_files(root, clips, _REMEDY) + count_defects(corpus, PUBLISHED_COUNTS, _REMEDY)
