"""Query by example (QbE): QUESST 2014, English part, subsequence DTW, no training.

Source: s3prl 0.4.18, downstream `quesst14_dtw`; SUPERB (Yang et al. 2021), table 1.
"""

from __future__ import annotations

from pathlib import Path

from mambabench.benchmarks.superb.sources import (
    Corpus,
    CorpusDefect,
    SourceClip,
    missing_files,
    read_lines,
    require_folder,
)
from mambabench.errors import DataError

__all__ = ["check", "read", "read_relevance"]

LANGUAGE = "nnenglish"
GAIN_DB = -3.0
_LISTS = {
    "documents": "language_key_utterances.lst",
    "valid": "language_key_dev.lst",
    "test": "language_key_eval.lst",
}
_FOLDERS = {"documents": "Audio", "valid": "dev_queries", "test": "eval_queries"}
_REMEDY = "unpack quesst14Database so that scoring/ and Audio/ lie in the corpus folder"


def read(root: Path) -> Corpus:
    """Read the English documents and queries of `root`, a quesst14Database folder.

    Splits: ``documents``, and the queries of ``valid`` (dev) and ``test`` (eval).
    """
    require_folder(root / "scoring", "QUESST 2014's scoring folder", _REMEDY)
    splits = {}
    for split, name in _LISTS.items():
        clips = []
        for number, line in enumerate(read_lines(root / "scoring" / name, _REMEDY), start=1):
            parts = line.split()
            if len(parts) < 2:
                raise DataError(f"{root / 'scoring' / name}, line {number}: not 'file language'")
            if parts[1] == LANGUAGE:
                stem = Path(parts[0]).stem
                path = f"{_FOLDERS[split]}/{stem}.wav"
                clips.append(SourceClip(f"{stem}.wav", path, (), gain_db=GAIN_DB))
        splits[split] = tuple(clips)
    return Corpus("superb_qbe", splits, ())


def read_relevance(root: Path, split: str) -> set[tuple[str, str]]:
    """Return the (query, document) stems that match, from the split's RTTM-like ground truth.

    Lines of ``scoring/groundtruth_quesst14_{dev,eval}/quesst14.rttm`` hold the document second and
    the query sixth, as ``LEXEME <document> 1 0 1 <query> lex <id> <score>``.
    """
    part = {"valid": "dev", "test": "eval"}[split]
    path = root / "scoring" / f"groundtruth_quesst14_{part}" / f"quesst14_{part}.rttm"
    found = set()
    for line in read_lines(path, _REMEDY):
        parts = line.split()
        if len(parts) >= 6 and parts[0] == "LEXEME":
            found.add((parts[5], parts[1]))
    return found


def check(root: Path) -> tuple[CorpusDefect, ...]:
    """List every listed English document and query whose audio is missing."""
    corpus = read(root)
    clips = [clip for split in corpus.splits.values() for clip in split]
    return missing_files(root, clips, _REMEDY)
