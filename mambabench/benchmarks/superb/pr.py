"""Phone recognition (PR): LibriSpeech with a lexicon, CTC.

Source: s3prl 0.4.18, downstream `ctc` with `libriphone`; SUPERB (Yang et al. 2021), table 1.
"""

from __future__ import annotations

from pathlib import Path

from mambabench.benchmarks.superb.sources import (
    Corpus,
    CorpusDefect,
    SourceClip,
    count_defects,
    read_lines,
    require_folder,
)
from mambabench.errors import DataError
from mambabench.reading.audio import find_file

__all__ = [
    "END",
    "LEXICONS",
    "PHONES",
    "PUBLISHED_COUNTS",
    "SPECIALS",
    "SPLIT_FOLDERS",
    "check",
    "read",
    "read_lexicon",
]

FOLDER = "LibriSpeech"
SPLIT_FOLDERS = {"train": "train-clean-100", "valid": "dev-clean", "test": "test-clean"}
PUBLISHED_COUNTS = {"train": 28_539, "valid": 2_703, "test": 2_620}
LEXICONS = ("librispeech-lexicon-200k-g2p.txt", "librispeech-lexicon-allothers-g2p.txt")
SPECIALS = ("<pad>", "<eos>", "<unk>")  # <pad> is the blank; every target ends with <eos>
END = SPECIALS[1]
_VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW"
_CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH"
# silence, spoken noise and the ARPAbet, vowels by stress: 71, sorted as the published list is
PHONES = (
    "SIL",
    "SPN",
    *sorted([v + s for v in _VOWELS.split() for s in "012"] + _CONSONANTS.split()),
)
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
            strange = sorted(set(phones) - set(PHONES))
            if strange:
                raise DataError(
                    f"{path}, line {number}: {word!r} has {', '.join(strange)}, none of SUPERB's "
                    f"{len(PHONES)} phones; {_LEXICON_REMEDY}"
                )
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
                    (*phones, END),
                    cluster=path.parent.parent.name,
                )
            )
    return tuple(clips)


def read(root: Path) -> Corpus:
    """Read `root`/LibriSpeech with the lexicon in `root`/lexicon.

    A clip's labels are its phones in order and <eos>; the vocabulary is s3prl's: 74 symbols.
    """
    lexicon = read_lexicon(root / "lexicon")
    splits = {split: _split_clips(root, name, lexicon) for split, name in SPLIT_FOLDERS.items()}
    return Corpus("superb_pr", splits, (*SPECIALS, *PHONES))


def check(root: Path) -> tuple[CorpusDefect, ...]:
    """List missing audio and splits of another size than published."""
    corpus = read(root)
    clips = [clip for split in corpus.splits.values() for clip in split]
    absent = tuple(
        CorpusDefect(clip.path, "has a transcript, but there is no such file", _REMEDY)
        for clip in clips
        if not find_file(root / clip.path).is_file()
    )
    return absent + count_defects(corpus, PUBLISHED_COUNTS, _REMEDY)
