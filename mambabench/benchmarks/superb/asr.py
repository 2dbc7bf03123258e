"""Speech recognition (ASR): LibriSpeech, letters by CTC, without a language model.

Source: s3prl 0.4.18, downstream `asr`; SUPERB (Yang et al. 2021), table 1.
"""

from __future__ import annotations

from pathlib import Path

from mambabench.benchmarks.kinds.text import WORD_END
from mambabench.benchmarks.superb.pr import FOLDER, PUBLISHED_COUNTS, SPLIT_FOLDERS
from mambabench.benchmarks.superb.sources import (
    Corpus,
    CorpusDefect,
    SourceClip,
    count_defects,
    missing_files,
    once,
    read_lines,
    require_folder,
    wrong_rates,
)
from mambabench.errors import DataError

__all__ = ["END", "SYMBOLS", "check", "encode_text", "read"]

END = "</s>"
# <s> is the blank; letters in the order of their frequency
SYMBOLS = ("<s>", "<pad>", "</s>", "<unk>", *"|ETAONIHSRDLUMCWFGYPBVK'XJQZ")
_REMEDY = f"unpack LibriSpeech so that {FOLDER}/train-clean-100 lies in the corpus folder"


def encode_text(text: str) -> tuple[str, ...]:
    """Return the symbols of a transcript: upper-case letters, | after every word, the end symbol.

    Raises DataError for a letter that is no symbol.
    """
    spoken = WORD_END.join(text.split()).upper()
    strange = sorted(set(spoken) - set(SYMBOLS))
    if strange:
        raise DataError(f"the letters {' '.join(strange)} are none of ASR's {len(SYMBOLS)} symbols")
    return (*spoken, WORD_END, END)


def _split_clips(root: Path, folder: str) -> tuple[SourceClip, ...]:
    base = require_folder(root / FOLDER / folder, f"LibriSpeech's {folder}", _REMEDY)
    clips: dict[str, SourceClip] = {}
    for path in sorted(base.glob("*/*/*.trans.txt")):
        for number, line in enumerate(read_lines(path, _REMEDY), start=1):
            name, *words = line.split()
            if not words:
                raise DataError(f"{path}, line {number}: {line!r} is not 'id TRANSCRIPT'")
            try:
                symbols = encode_text(" ".join(words))
            except DataError as error:
                raise DataError(
                    f"{path}, line {number}, clip {name}: {error}; take the transcripts as released"
                ) from error
            audio = path.parent / f"{name}.flac"
            once(clips, audio.name, f"{path}, line {number}", "take the transcripts as released")
            clips[audio.name] = SourceClip(
                audio.name,
                audio.relative_to(root).as_posix(),
                symbols,
                cluster=path.parent.parent.name,
            )
    return tuple(clips.values())


def read(root: Path) -> Corpus:
    """Read `root`/LibriSpeech as unpacked; the clusters are its readers."""
    splits = {split: _split_clips(root, folder) for split, folder in SPLIT_FOLDERS.items()}
    return Corpus("superb_asr", splits, SYMBOLS)


def check(root: Path) -> tuple[CorpusDefect, ...]:
    """List missing audio, other rates and splits of another size than published."""
    corpus = read(root)
    clips = [clip for split in corpus.splits.values() for clip in split]
    wrong = missing_files(root, clips, _REMEDY) + wrong_rates(root, clips, _REMEDY)
    return wrong + count_defects(corpus, PUBLISHED_COUNTS, _REMEDY)
