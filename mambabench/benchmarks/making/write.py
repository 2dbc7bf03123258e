"""Write the task directory of a table; it points at the audio, none is copied."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mambabench.benchmarks.family import Prepared
from mambabench.benchmarks.layout.json_values import is_plain
from mambabench.benchmarks.layout.read import METADATA, SOURCE_COLUMNS, SOURCES, VOCABULARY
from mambabench.benchmarks.making.splits import Splits, splits_of
from mambabench.benchmarks.making.table import Entry, read_entries
from mambabench.errors import DataError
from mambabench.files import sha256_file, write_bytes, write_json
from mambabench.reading.audio import find_file, read_header

__all__ = ["make"]

CLUSTERS = "clusters.json"
EVALUATION = {
    "multiclass": ("top1_acc", "mAP", "d_prime", "aucroc"),
    "multilabel": ("mAP", "d_prime", "aucroc"),
    "event": ("event_onset_200ms_fms", "segment_1s_er"),
}


def make(
    table: Path | str,
    audio: Path | str,
    to: Path | str = "tasks",
    *,
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
    separator: str = ";",
    folds: int | None = None,
    seed: int = 0,
) -> Prepared:
    """Write the task `to`/`name` from a CSV of files below `audio` and their labels.

    Columns are found by their names (file, label, split, group, start, end, and what else means
    these) or named in `columns`. A field with several labels is cut at `separator`; a table with
    start and end (seconds) is one of events. Without a column of splits, train, valid and test (or
    `folds` folds) are made: whole groups, labels in like shares, from `seed`. The same table gives
    the same bytes. Raises DataError, naming file and line, for what is wrong with it.
    """
    table, audio = Path(table), Path(audio)
    if not audio.is_dir():
        raise DataError(f"{audio}: no such folder; it should hold the audio files of {table}")
    called = name or table.stem
    if not is_plain(called):
        raise DataError(f"{called!r} is no plain name: give --name")
    entries, events = read_entries(table, audio, columns or {}, separator)
    kind = _kind(entries, events)
    splits = splits_of(entries, folds, seed)
    if (said := _mixed_rates(entries, audio)) is not None:
        splits = replace(splits, notes=(*splits.notes, said))
    directory = Path(to) / called
    try:
        _write(directory, table, audio.resolve(), splits, kind, events)
    except OSError as error:
        raise DataError(
            f"cannot write {directory}: {error.strerror or error}; change --to"
        ) from error
    counts = {split: len(own) for split, own in splits.entries.items()}
    return Prepared(directory, counts, splits.notes)


def _kind(entries: Sequence[Entry], events: bool) -> str:
    """Return the prediction type; DataError where a file of a task of classes has no label."""
    labels = {label for entry in entries for label in entry.all_labels}
    if len(labels) < 2:
        raise DataError(
            f"all clips have the label {', '.join(labels) or 'nothing'}: a head needs two at least"
        )
    if events or any(len(entry.labels) > 1 for entry in entries):
        return "multilabel"
    bare = next((entry for entry in entries if not entry.labels), None)
    if bare is not None:
        raise DataError(f"{bare.where}: {bare.path} has no label: give one, or leave the row out")
    return "multiclass"


def _mixed_rates(entries: Sequence[Entry], audio: Path) -> str | None:
    """Say of how many sample rates the files are, if of several: each is resampled from its own."""
    rates = Counter(read_header(find_file(audio / entry.path)).sample_rate_hz for entry in entries)
    if len(rates) < 2:
        return None
    said = ", ".join(f"{rates[rate]} of {rate} Hz" for rate in sorted(rates))
    return f"files of several sample rates ({said}), each resampled from its own"


def _write(
    directory: Path, table: Path, audio: Path, splits: Splits, kind: str, events: bool
) -> None:
    called = _clip_names([entry for own in splits.entries.values() for entry in own])
    labels = sorted({x for own in splits.entries.values() for e in own for x in e.all_labels})
    rows = [(str(i), label) for i, label in enumerate(labels)]
    write_bytes(directory / VOCABULARY, _csv([("idx", "label"), *rows]))
    sources: list[tuple[str, ...]] = [SOURCE_COLUMNS]
    clusters: dict[str, str] = {}
    for split, own in splits.entries.items():
        write_json(directory / f"{split}.json", {called[e.path]: _labels(e, events) for e in own})
        sources += [
            (split, called[e.path], e.path.as_posix(), "0.0", "", "0.0", "0", "") for e in own
        ]
        clusters |= {f"{split}/{called[e.path]}": e.group for e in own if e.group}
    write_bytes(directory / SOURCES, _csv(sources))
    metadata: dict[str, object] = {
        "task_name": directory.name,
        "version": sha256_file(table)[:8],
        "embedding_type": "event" if events else "scene",
        "prediction_type": kind,
        "split_mode": splits.mode,
        "splits": list(splits.entries),
        "sample_duration": None,
        "evaluation": list(EVALUATION["event" if events else kind]),
        "protocol": "sound",
        "audio_root": str(audio),
        "notes": list(splits.notes),
        "made_from": {"file": table.name, "sha256": sha256_file(table)},
    }
    if clusters:
        write_json(directory / CLUSTERS, clusters)
        metadata["clusters"] = CLUSTERS
    write_json(directory / METADATA, metadata)


def _labels(entry: Entry, events: bool) -> list[object]:
    if not events:
        return list(entry.labels)
    return [
        {"label": label, "start": round(1000 * start, 6), "end": round(1000 * end, 6)}
        for label, start, end in sorted(entry.events, key=lambda event: event[1:])
    ]


def _clip_names(entries: Sequence[Entry]) -> dict[Path, str]:
    """Return what each clip is called: its file's name, or its path where that is not enough."""
    names = [entry.path.name for entry in entries]
    if len(set(names)) == len(names):
        return {entry.path: entry.path.name for entry in entries}
    return {entry.path: "__".join(p for p in entry.path.parts if p != "/") for entry in entries}


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
