"""Phone recognition (PR): LibriSpeech with a lexicon, CTC.

Source: s3prl 0.4.18, downstream `ctc` with `libriphone`; SUPERB (Yang et al. 2021), table 1.
"""

from __future__ import annotations

from pathlib import Path

from mambabench.benchmarks.superb.sources import (
    Corpus,
    Defect,
    SourceClip,
    count_defects,
    read_lines,
    require_folder,
)
from mambabench.errors import DataError
from mambabench.reading.audio import find_file

__all__ = ["LEXICONS", "PUBLISHED_COUNTS", "SPLIT_FOLDERS", "check", "read", "read_lexicon"]

FOLDER = "LibriSpeech"
SPLIT_FOLDERS = {"train": "train-clean-100", "valid": "dev-clean", "test": "test-clean"}
PUBLISHED_COUNTS = {"train": 28_539, "valid": 2_703, "test": 2_620}
LEXICONS = ("librispeech-lexicon-200k-g2p.txt", "librispeech-lexicon-allothers-g2p.txt")
N_PHONES = 71  # SIL, SPN and the stressed ARPAbet; s3prl adds <pad>, <eos> and <unk>
_REMEDY = f"unpack LibriSpeech so that {FOLDER}/train-clean-100 lies in the corpus folder"
_LEXICON_REMEDY = (
    f"put {LEXICONS[0]} and {LEXICONS[1]} (from the owners of s3prl's g2p lists) into lexicon/"
)


def read_lexicon(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return word -> phones from every ``*.txt`` of `folder`; the first pronunciation wins.

    A line is ``WORD PHONE PHONE ...``. The published pair is read in its published order, other
    names sorted after it. Raises DataError where there is no list or a line has no phone.
    """
    known = [folder / name for name in LEXICONS if (folder / name).is_file()]
    paths = known + sorted(path for path in folder.glob("*.txt") if path not in known)
    if not paths:
        raise DataError(f"{folder}: the lexicon is missing; {_LEXICON_REMEDY}")
    lexicon: dict[str, tuple[str, ...]] = {}
    for path in paths:
        for number, line in enumerate(read_lines(path, _LEXICON_REMEDY), start=1):
            word, *phones = line.split()
            if not phones:
                raise DataError(f"{path}, line {number}: {word!r} has no phones")
            lexicon.setdefault(word, tuple(phones))
    return lexicon


def _split_clips(
    root: Path, folder: str, lexicon: dict[str, tuple[str, ...]]
) -> tuple[SourceClip, ...]:
    base = require_folder(root / FOLDER / folder, f"LibriSpeech's {folder}", _REMEDY)
    clips = []
    for path in sorted(base.glob("*/*/*.trans.txt")):
        for line in read_lines(path, _REMEDY):
            name, _, text = line.partition(" ")
            unknown = sorted({word for word in text.split() if word not in lexicon})
            if unknown:
                raise DataError(
                    f"{path}, {name}: {', '.join(unknown)} not in the lexicon; {_LEXICON_REMEDY}"
                )
            phones = tuple(phone for word in text.split() for phone in lexicon[word])
            audio = path.parent / f"{name}.flac"
            clips.append(
                SourceClip(
                    f"{name}.flac",
                    audio.relative_to(root).as_posix(),
                    phones,
                    cluster=path.parent.parent.name,
                )
            )
    return tuple(clips)


def read(root: Path) -> Corpus:
    """Read `root`/LibriSpeech with the lexicon in `root`/lexicon.

    A clip's labels are its phones in order; the vocabulary is every phone of the lexicon, sorted.
    """
    lexicon = read_lexicon(root / "lexicon")
    phones = tuple(sorted({phone for word in lexicon.values() for phone in word}))
    splits = {split: _split_clips(root, name, lexicon) for split, name in SPLIT_FOLDERS.items()}
    return Corpus("superb_pr", splits, phones)


def check(root: Path) -> tuple[Defect, ...]:
    """List missing audio, phones of another number and splits of another size than published."""
    corpus = read(root)
    clips = [clip for split in corpus.splits.values() for clip in split]
    absent = tuple(
        Defect(clip.path, "has a transcript, but there is no such file", _REMEDY)
        for clip in clips
        if not find_file(root / clip.path).is_file()
    )
    extra = (
        (Defect("lexicon", f"{len(corpus.labels)} phones, published {N_PHONES}", _LEXICON_REMEDY),)
        if len(corpus.labels) > N_PHONES
        else ()
    )
    return absent + extra + count_defects(corpus, PUBLISHED_COUNTS, _REMEDY)
