"""Intent classification (IC): Fluent Speech Commands, three slots that must all be right.

Source: s3prl 0.4.18, downstream `fluent_commands`; SUPERB (Yang et al. 2021), table 1.
"""

from __future__ import annotations

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
from mambabench.reading.tables import TableRow, read_table

__all__ = ["PUBLISHED_COUNTS", "SLOTS", "check", "read", "slot_sizes"]

SLOTS = ("action", "object", "location")
PUBLISHED_COUNTS = {"train": 23_132, "valid": 3_118, "test": 3_793}
FOLDER = "fluent_speech_commands_dataset"
_REMEDY = f"unpack the dataset so that {FOLDER}/data and {FOLDER}/wavs lie in the corpus folder"


def _rows(path: Path) -> list[TableRow]:
    if not path.is_file():
        raise DataError(f"{path}: the list file is missing; {_REMEDY}")
    return read_table(path, ("path", "speakerId", *SLOTS), strip=False)


def read(root: Path) -> Corpus:
    """Read `root`/fluent_speech_commands_dataset.

    A clip's labels are ``action=...``, ``object=...`` and ``location=...``. The vocabulary lists
    the values of each slot in order of first appearance in the training list, which is s3prl's id
    order. Raises DataError for a missing list and for a value that training never shows.
    """
    base = require_folder(root / FOLDER, "Fluent Speech Commands", _REMEDY)
    lists = {split: _rows(base / "data" / f"{split}_data.csv") for split in PUBLISHED_COUNTS}
    labels = tuple(
        label
        for slot in SLOTS
        for label in dict.fromkeys(f"{slot}={row[slot]}" for row in lists["train"])
    )
    known = set(labels)
    splits = {}
    for split, rows in lists.items():
        clips = tuple(_clip(row) for row in rows)
        strange = sorted({label for clip in clips for label in clip.labels} - known)
        if strange:
            raise DataError(
                f"{base / 'data' / f'{split}_data.csv'}: {', '.join(strange)} not in the training "
                "list; take the three lists of one release"
            )
        splits[split] = clips
    return Corpus("superb_ic", splits, labels)


def _clip(row: TableRow) -> SourceClip:
    return SourceClip(
        "__".join(Path(row["path"]).parts[-2:]),
        f"{FOLDER}/{row['path']}",
        tuple(f"{slot}={row[slot]}" for slot in SLOTS),
        cluster=row["speakerId"],
    )


def slot_sizes(labels: tuple[str, ...]) -> tuple[int, ...]:
    """Return the number of values of each slot (published: 6, 14, 4)."""
    return tuple(sum(label.startswith(f"{slot}=") for label in labels) for slot in SLOTS)


def check(root: Path) -> tuple[CorpusDefect, ...]:
    """List what is missing or extra against the lists and the published counts."""
    corpus = read(root)
    clips = [clip for split in corpus.splits.values() for clip in split]
    sizes = slot_sizes(corpus.labels)
    wrong = tuple(
        CorpusDefect(
            f"data/train_data.csv, {slot}", f"{found} values, published {expected}", _REMEDY
        )
        for slot, found, expected in zip(SLOTS, sizes, (6, 14, 4), strict=True)
        if found != expected
    )
    counts = count_defects(corpus, PUBLISHED_COUNTS, _REMEDY)
    return missing_files(root, clips, _REMEDY) + wrong + counts
