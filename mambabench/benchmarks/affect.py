"""What the depression and sentiment tasks add to a task directory: sessions, genders, real labels.

The directory is HEAR's layout and points at the corpus's own audio, so that extract, probe and
report treat it as any other task. The key "affect" of its metadata says which clips form a session
and what is known of it; the store keeps the metadata, so no audio is needed to evaluate.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from mambabench.benchmarks.depression.sessions import SPLITS, Session
from mambabench.errors import DataError
from mambabench.files import write_bytes, write_json
from mambabench.reading.json_files import read_json_object

__all__ = ["Affect", "AffectClip", "read_affect", "write_task"]

METADATA = "task_metadata.json"
EVALUATION = ("uar", "macro_f1", "top1_acc", "aucroc")  # the first is primary


@dataclass(frozen=True)
class AffectClip:
    """A piece of audio of one session: a whole file, or a segment of one."""

    name: str  # plain file name, unique in its split
    session: str
    path: str  # relative to the corpus
    start_s: float = 0.0
    duration_s: float | None = None  # None: to the end
    targets: Mapping[str, float] = field(default_factory=dict)  # M, T, A of a sentiment clip


@dataclass(frozen=True)
class Affect:
    """What a task's metadata say beyond HEAR."""

    kind: Literal["depression", "sentiment"]
    corpus: str
    sessions: dict[str, Session]  # by name, over all splits
    session_of: dict[str, str]  # "<split>/<clip>" -> session
    targets: dict[str, dict[str, float]]  # "<split>/<clip>" -> M, T, A
    root: Path  # of the corpus

    def of_split(self, split: str) -> tuple[Session, ...]:
        """Return the sessions of a split, sorted by name."""
        return tuple(s for _, s in sorted(self.sessions.items()) if s.split == split)


def _line(fields: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue()


def write_task(
    directory: Path,
    *,
    kind: Literal["depression", "sentiment"],
    corpus: str,
    root: Path,
    labels: tuple[str, str],
    sessions: Sequence[Session],
    clips: Mapping[str, Sequence[AffectClip]],
    pooling: Literal["scene", "frames"] = "scene",
    restricted: bool = True,
    notes: Sequence[str] = (),
) -> None:
    """Write a task directory that points at the audio below `root`; metadata last.

    `labels` are the names of label 0 and 1; `clips` by split. Raises DataError where a split has no
    clips, a name repeats or a clip belongs to no session.
    """
    by_name = {session.name: session for session in sessions}
    for split in SPLITS:
        names = [clip.name for clip in clips.get(split, ())]
        if not names:
            raise DataError(f"{corpus}: no clips for split {split!r} in {root}")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"{corpus}: two clips of split {split!r} are named {twice!r}")
    vocabulary = [_line(("idx", "label")), *(_line(row) for row in enumerate(labels))]
    write_bytes(directory / "labelvocabulary.csv", "".join(vocabulary).encode())
    header = ("split", "clip", "path", "start_s", "duration_s", "gain_db", "trim_silence")
    sources = [_line((*header, "crop_of"))]
    clusters: dict[str, str] = {}
    session_of: dict[str, str] = {}
    targets: dict[str, dict[str, float]] = {}
    for split in SPLITS:
        entries = {}
        for clip in clips[split]:
            session = by_name.get(clip.session)
            if session is None:
                raise DataError(f"{corpus}: clip {clip.name} is of no known session {clip.session}")
            key = f"{split}/{clip.name}"
            entries[clip.name] = [labels[session.label]]
            clusters[key], session_of[key] = session.cluster, session.name
            if clip.targets:
                targets[key] = dict(clip.targets)
            duration = "" if clip.duration_s is None else repr(clip.duration_s)
            row = (split, clip.name, clip.path, repr(clip.start_s), duration, "0.0", "0", "")
            sources.append(_line(row))
        write_json(directory / f"{split}.json", entries)
    write_bytes(directory / "sources.csv", "".join(sources).encode())
    write_json(directory / "clusters.json", clusters)
    metadata = {
        "task_name": directory.name,
        "version": "affect",
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "trainvaltest",
        "splits": list(SPLITS),
        "sample_duration": None,
        "evaluation": list(EVALUATION),
        "pooling": pooling,
        "audio_root": str(root.resolve()),
        "clusters": "clusters.json",
        "restricted": restricted,
        "notes": list(notes),
        "affect": {
            "kind": kind,
            "corpus": corpus,
            "sessions": [asdict(session) for session in sessions],
            "session_of": session_of,
            "targets": targets,
        },
    }
    write_json(directory / METADATA, metadata)


def read_affect(directory: Path) -> Affect | None:
    """Return what a task's (or a store's) metadata say of its sessions; None for other tasks."""
    path = directory / METADATA
    remedy = "prepare the task again from its corpus"
    metadata: dict[str, Any] = read_json_object(path, remedy=remedy)
    block = metadata.get("affect")
    if block is None:
        return None
    try:
        sessions = {row["name"]: Session(**row) for row in block["sessions"]}
        return Affect(
            kind=block["kind"],
            corpus=block["corpus"],
            sessions=sessions,
            session_of=dict(block["session_of"]),
            targets=dict(block["targets"]),
            root=Path(metadata["audio_root"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: its block 'affect' is incomplete ({error!r}); {remedy}"
        ) from error
