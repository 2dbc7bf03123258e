"""Emotion recognition (ER): IEMOCAP, four classes, five folds by session.

Source: s3prl 0.4.18, downstream `emotion`; SUPERB (Yang et al. 2021), table 1.
"""

from __future__ import annotations

import re
from pathlib import Path

from mambabench.benchmarks.superb.sources import (
    Corpus,
    CorpusDefect,
    SourceClip,
    count_defects,
    missing_files,
    require_folder,
)
from mambabench.errors import DataError
from mambabench.files import read_json

__all__ = ["CLASSES", "PUBLISHED_COUNTS", "check", "read"]

FOLDER = "IEMOCAP"
CLASSES = ("neu", "hap", "ang", "sad")
_MERGED = {"neu": "neu", "hap": "hap", "exc": "hap", "ang": "ang", "sad": "sad"}
SESSIONS = tuple(f"Session{number}" for number in range(1, 6))
PUBLISHED_COUNTS = dict(zip(SESSIONS, (1085, 1023, 1151, 1031, 1241), strict=True))
PUBLISHED_LABELS = {"neu": 1708, "hap": 1636, "ang": 1103, "sad": 1084}
_LINE = re.compile(r"^\[[\d.]+ - [\d.]+\]\t(?P<name>\S+)\t(?P<emotion>\w+)\t")
_REMEDY = (
    "unpack IEMOCAP_full_release so that IEMOCAP/Session1..5 lie in the corpus folder "
    "(the release comes from its owner on request)"
)


def _evaluated(root: Path, session: str) -> list[SourceClip]:
    """Derive one session's clips from its EmoEvaluation files, in sorted order of names."""
    folder = root / FOLDER / session / "dialog" / "EmoEvaluation"
    require_folder(folder, f"the labels of {session}", _REMEDY)
    found = []
    for path in sorted(folder.glob("*.txt")):
        for line in path.read_text(encoding="latin-1").splitlines():
            match = _LINE.match(line)
            if match and match["emotion"] in _MERGED:
                found.append(_clip(session, match["name"], _MERGED[match["emotion"]]))
    return sorted(found, key=lambda clip: clip.name)


def _clip(session: str, name: str, label: str) -> SourceClip:
    dialog = name.rpartition("_")[0]
    # the speaker is the session's woman or man: the letter before the turn's number
    return SourceClip(
        f"{name}.wav",
        f"{FOLDER}/{session}/sentences/wav/{dialog}/{name}.wav",
        (label,),
        cluster=f"{session}{name.rpartition('_')[2][0]}",
    )


def _listed(path: Path, session: str) -> list[SourceClip]:
    """Read s3prl's shipped list of one session's test fold, in its own order."""
    try:
        entries = read_json(path)["meta_data"]
        return [_clip(session, Path(entry["path"]).stem, entry["label"]) for entry in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a list of s3prl's form ({error}); copy it again") from error


def read(root: Path) -> Corpus:
    """Read `root`/IEMOCAP: one split a session.

    Where `root`/meta_data/SessionN/test_meta_data.json (s3prl's lists) exist for all sessions,
    their order is taken, which the seeded development split of the protocol `superb` depends on;
    otherwise the clips come from the EmoEvaluation files in sorted order, and a note says so.
    """
    require_folder(root / FOLDER, "IEMOCAP", _REMEDY)
    lists = {s: root / "meta_data" / s / "test_meta_data.json" for s in SESSIONS}
    shipped = all(path.is_file() for path in lists.values())
    splits = {
        session: tuple(_listed(lists[session], session) if shipped else _evaluated(root, session))
        for session in SESSIONS
    }
    note = "clip order: s3prl's lists" if shipped else "clip order: sorted names"
    return Corpus("superb_er", splits, CLASSES, (note,))


def check(root: Path) -> tuple[CorpusDefect, ...]:
    """List missing files, sessions and labels of another number than published."""
    corpus = read(root)
    clips = [clip for split in corpus.splits.values() for clip in split]
    labels = tuple(
        CorpusDefect(f"label {label}", f"{found:,} clips, published {expected:,}", _REMEDY)
        for label, expected in PUBLISHED_LABELS.items()
        if (found := sum(clip.labels == (label,) for clip in clips)) != expected
    )
    counts = count_defects(corpus, PUBLISHED_COUNTS, _REMEDY)
    return missing_files(root, clips, _REMEDY) + labels + counts
