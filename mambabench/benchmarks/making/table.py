"""Read a table of audio files, labels, and perhaps splits, groups and times of events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mambabench.errors import DataError, nearest_names
from mambabench.reading.audio import find_file
from mambabench.reading.tables import TableRow, read_table
from mambabench.reading.text import same_name

__all__ = ["COLUMNS", "Entry", "read_entries"]

# what a column is for: names that are understood, in any case; the first one is ours
COLUMNS: dict[str, tuple[str, ...]] = {
    "file": ("file", "path", "filename", "file_name", "filepath", "audio", "clip", "wav"),
    "label": ("label", "labels", "class", "category", "target", "tag", "tags"),
    "split": ("split", "subset", "partition", "fold", "set"),
    "group": ("group", "cluster", "speaker", "speaker_id", "recording", "session", "subject"),
    "start": ("start", "start_s", "onset", "begin"),
    "end": ("end", "end_s", "offset", "stop"),
}


@dataclass(frozen=True)
class Entry:
    """One audio file, with all that its rows say."""

    path: Path  # relative to the audio folder, or absolute
    labels: tuple[str, ...]
    split: str  # "" where the table has none
    group: str  # "" where the table has none
    events: tuple[tuple[str, float, float], ...]  # label, start and end in seconds
    where: str  # "FILE, line N" of its first row

    @property
    def all_labels(self) -> tuple[str, ...]:
        """Labels of the clip, or of its events."""
        return tuple(dict.fromkeys((*self.labels, *(label for label, _, _ in self.events))))


def read_entries(
    table: Path, audio: Path, columns: Mapping[str, str], separator: str
) -> tuple[tuple[Entry, ...], bool]:
    """Return the files of a table, and whether its rows are events (it has start and end).

    `columns` names columns that are called otherwise: "file" -> "Dateiname". A field of
    labels is cut at `separator`. Raises DataError, naming the line, for a file that is not there or
    rows of one file that contradict each other.
    """
    rows = read_table(table, ())
    if not rows:
        raise DataError(f"{table} has no rows: give a line per file, below a header")
    found = _columns(table, list(rows[0]), columns)
    events = "start" in found
    by_file: dict[str, list[TableRow]] = {}
    for row in rows:
        name = row[found["file"]].strip()
        if not name:
            raise row.wrong(found["file"], "is empty")
        by_file.setdefault(name, []).append(row)
    entries = []
    for name, own in by_file.items():
        if len(own) > 1 and not events:
            raise own[1].wrong(found["file"], f"{name!r} stands there twice: keep one row a file")
        entries.append(_entry(name, own, found, audio, separator, events))
    return tuple(entries), events


def _columns(table: Path, header: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """Return what each known column is called in this table."""
    for role, name in given.items():
        if role not in COLUMNS:
            near = nearest_names(role, COLUMNS)
            raise DataError(
                f"there is no column {role!r} to be named; known: {', '.join(COLUMNS)}{near}"
            )
        if name not in header:
            raise DataError(f"{table} has no column {name!r}{nearest_names(name, header)}")
    lower = {name.strip().lower(): name for name in reversed(header)}
    found = dict(given)
    for role, names in COLUMNS.items():
        own = next((lower[name] for name in names if name in lower), None)
        if role not in found and own is not None and own not in given.values():
            found[role] = own
    for role in ("file", "label"):
        if role not in found:
            raise DataError(
                f"{table}: no column says the {role}; there are {', '.join(header)}: name it with "
                f"--column {role}=NAME"
            )
    if ("start" in found) != ("end" in found):
        raise DataError(f"{table}: events need both a start and an end, in seconds")
    return found


def _entry(
    name: str,
    rows: Sequence[TableRow],
    found: Mapping[str, str],
    audio: Path,
    separator: str,
    events: bool,
) -> Entry:
    first = rows[0]
    if not find_file(audio / name).is_file():
        raise first.wrong(found["file"], f"{audio / name} is not there: correct it, or --audio")
    for role in ("split", "group"):
        values = {row[found[role]].strip() for row in rows} if role in found else {""}
        if len(values) > 1:
            raise first.wrong(found[role], f"{name!r} has several: {', '.join(sorted(values))}")
        if role in found and values == {""}:
            raise first.wrong(found[role], "is empty")
    labels = [same_name(part.strip()) for part in first[found["label"]].split(separator)]
    return Entry(
        path=Path(name),
        labels=() if events else tuple(dict.fromkeys(filter(None, labels))),
        split=first[found["split"]].strip() if "split" in found else "",
        group=first[found["group"]].strip() if "group" in found else "",
        events=tuple(_event(row, found) for row in rows if row[found["label"]].strip())
        if events
        else (),
        where=first.where,
    )


def _event(row: TableRow, found: Mapping[str, str]) -> tuple[str, float, float]:
    start = row.number(found["start"], low=0.0)
    end = row.number(found["end"], low=0.0)
    if end < start:
        raise row.wrong(found["end"], f"{end:g} s is before the start, {start:g} s")
    return same_name(row[found["label"]].strip()), start, end
