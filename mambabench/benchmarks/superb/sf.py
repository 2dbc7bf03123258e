"""Slot filling (SF): Audio SNIPS, letters and slot borders by CTC.

Source: s3prl 0.4.18, downstream `ctc` with `snips`; SUPERB (Yang et al. 2021), table 1.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path

from mambabench.benchmarks.kinds.text import END
from mambabench.benchmarks.superb.sources import (
    Corpus,
    CorpusDefect,
    SourceClip,
    count_defects,
    missing_files,
    once,
    require_folder,
    wrong_rates,
)
from mambabench.errors import DataError
from mambabench.reading.text import read_text

__all__ = ["END", "LETTERS", "SPEAKERS", "check", "encode_line", "read", "symbols_of"]

FOLDER, TEXTS, SLOTS = "SNIPS", "all.iob.snips.txt", "slots.txt"
SPEAKERS = {
    "train": ("Ivy", "Joanna", "Joey", "Justin", "Kendra", "Kimberly", "Matthew", "Salli"),
    "valid": ("Aditi", "Amy", "Geraint", "Nicole"),
    "test": ("Brian", "Emma", "Raveena", "Russell"),
}
PUBLISHED_COUNTS = {"train": 104_672, "valid": 2_800, "test": 2_800}
N_SYMBOLS = 109
UNKNOWN = "<unk>"
LETTERS = (" ", *string.ascii_uppercase, "'")
_OUTSIDE = "O"
_SKIPPED = "?!.,;-"  # words that are a piece of this are left out, the empty word too
_REMEDY = (
    f"put Audio SNIPS, as s3prl prepares it, below the corpus folder: {FOLDER}/train, valid and "
    f"test with their WAV files, {FOLDER}/{TEXTS} and {FOLDER}/{SLOTS}"
)


def symbols_of(slots: Sequence[str]) -> tuple[str, ...]:
    """Return the symbols by index: blank, end, unknown, letters, B- and E- of every slot type."""
    borders = [f"{border}-{slot}" for slot in slots for border in "BE"]
    return ("<pad>", END, UNKNOWN, *LETTERS, *borders)


def encode_line(line: str, symbols: Sequence[str]) -> tuple[str, ...]:
    """Return the symbols of ``BOS words EOS<TAB>O tags intent``.

    Equal neighbouring tags are one slot. A skipped word takes a border or the end symbol that
    falls on it along. Raises DataError for a line of another form or a tag that is no slot type.
    """
    said, tab, tagged = line.strip("\r\n ").partition("\t")
    words, tags = said.split(" ")[1:-1], tagged.split(" ")[1:-1]
    if not tab or len(words) != len(tags) or not words:
        raise DataError(
            f"{line!r} is not 'BOS words EOS<TAB>O tags intent' with a tag for every word"
        )
    known = set(symbols)
    found: list[str] = []
    for i, (word, tag) in enumerate(zip(words, tags, strict=True)):
        if word in _SKIPPED:
            continue
        slot = tag != _OUTSIDE
        if slot and f"B-{tag}" not in known:
            raise DataError(f"tag {tag!r} is no type of {SLOTS}")
        if slot and (i == 0 or tags[i - 1] != tag):
            found.append(f"B-{tag}")
        spelled = "AND" if word == "&" else word
        found += [letter if letter in LETTERS else UNKNOWN for letter in spelled]
        last = i == len(words) - 1
        if slot and (last or tags[i + 1] != tag):
            found.append(f"E-{tag}")
        found.append(END if last else " ")
    return tuple(found)


def _slot_types(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        raise DataError(f"{path}: the list of slot types is missing; {_REMEDY}")
    first, *types = read_text(path, remedy=_REMEDY).rstrip("\n").split("\n")
    if first != _OUTSIDE:
        raise DataError(f"{path}: the first line is {first!r}, not 'O'; {_REMEDY}")
    if not types or len(set(types)) < len(types) or "" in types:
        raise DataError(f"{path}: slot types must be there, each once and none empty; {_REMEDY}")
    return tuple(types)


def _texts(path: Path, symbols: Sequence[str]) -> dict[str, tuple[str, ...]]:
    if not path.is_file():
        raise DataError(f"{path}: the texts are missing; {_REMEDY}")
    texts: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(read_text(path, remedy=_REMEDY).splitlines(), start=1):
        if not line.strip():
            continue
        name, _, rest = line.partition(" ")
        once(texts, name, f"{path}, line {number}", _REMEDY)
        try:
            texts[name] = encode_line(rest, symbols)
        except DataError as error:
            raise DataError(f"{path}, line {number}: {error}; {_REMEDY}") from error
    return texts


def read(root: Path) -> Corpus:
    """Read `root`/SNIPS; the clusters are the sentences, which several voices read.

    Files of speakers that a split does not have are left out, as by s3prl.
    """
    base = require_folder(root / FOLDER, "Audio SNIPS", _REMEDY)
    symbols = symbols_of(_slot_types(base / SLOTS))
    texts = _texts(base / TEXTS, symbols)
    splits = {}
    for split, speakers in SPEAKERS.items():
        folder = require_folder(base / split, f"the {split} part of Audio SNIPS", _REMEDY)
        clips = []
        for path in sorted(folder.glob("*.wav")):
            speaker, _, sentence = path.stem.partition("-")
            if not speaker.startswith(speakers):
                continue
            if path.stem not in texts:
                raise DataError(f"{base / TEXTS}: has no line for {path.stem}; {_REMEDY}")
            clips.append(
                SourceClip(
                    path.name,
                    path.relative_to(root).as_posix(),
                    texts[path.stem],
                    cluster=sentence,
                )
            )
        splits[split] = tuple(clips)
    return Corpus("superb_sf", splits, symbols)


def _unheard(root: Path, corpus: Corpus) -> tuple[CorpusDefect, ...]:
    """Return one defect per sentence of a split's speakers that has a line but no audio."""
    base = root / FOLDER
    lines = _texts(base / TEXTS, corpus.labels)
    there = {clip.name for clips in corpus.splits.values() for clip in clips}
    return tuple(
        CorpusDefect(f"{FOLDER}/{split}/{name}.wav", "listed, but there is no such file", _REMEDY)
        for split, speakers in SPEAKERS.items()
        for name in lines
        if name.startswith(tuple(f"{who}-snips-{split}-" for who in speakers))
        and f"{name}.wav" not in there
    )


def check(root: Path) -> tuple[CorpusDefect, ...]:
    """List missing audio, other rates and counts of clips and symbols other than published."""
    corpus = read(root)
    clips = [clip for split in corpus.splits.values() for clip in split]
    n_symbols = len(corpus.labels)
    wrong = (
        (CorpusDefect(f"{FOLDER}/{SLOTS}", f"{n_symbols} symbols, published {N_SYMBOLS}", _REMEDY),)
        if n_symbols != N_SYMBOLS
        else ()
    )
    return (
        _unheard(root, corpus)
        + missing_files(root, clips, _REMEDY)
        + wrong_rates(root, clips, _REMEDY)
        + wrong
        + count_defects(corpus, PUBLISHED_COUNTS, _REMEDY)
    )
