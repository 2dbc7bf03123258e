"""Interview corpora: what the participant says, cut into clips; the interviewer is never heard.

Interviewer prompts alone separate the classes of DAIC-WOZ (arXiv 2404.14463), so clips come from
the participant's turns in the transcript only. A session's decision is the mean over its clips.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mambabench.benchmarks.affect import AffectClip, write_task
from mambabench.benchmarks.depression.sessions import SPLITS, Session
from mambabench.errors import DataError
from mambabench.reading.audio import find_file

__all__ = ["InterviewCorpus", "ParticipantTurn", "clips_of_turns", "prepare", "session_faults"]

MIN_S = 1.0  # shorter pieces are dropped
MAX_S = 10.0  # longer turns are cut into equal pieces
LABELS = ("normal", "depressed")


@dataclass(frozen=True)
class ParticipantTurn:
    """One turn of the participant, in seconds from the start of the recording."""

    start_s: float
    stop_s: float


@dataclass(frozen=True)
class InterviewCorpus:
    """A corpus of recorded interviews with a severity score per session."""

    name: str
    counts: Mapping[str, tuple[int, int]]  # split -> (sessions, of them positive), as published
    read_sessions: Callable[[Path], tuple[Session, ...]]
    audio_file: Callable[[Session], str]  # relative to the corpus
    read_turns: Callable[[Path, Session], tuple[ParticipantTurn, ...]]  # participant only
    notes: tuple[str, ...] = ()


def clips_of_turns(
    turns: Sequence[ParticipantTurn], min_s: float = MIN_S, max_s: float = MAX_S
) -> list[ParticipantTurn]:
    """Cut turns into equal pieces of at most `max_s`; drop what is shorter than `min_s`."""
    pieces = []
    for turn in turns:
        length = turn.stop_s - turn.start_s
        if length < min_s:
            continue
        n = math.ceil(length / max_s)
        edges = [round(turn.start_s + length * i / n, 4) for i in range(n + 1)]
        pieces += [ParticipantTurn(a, b) for a, b in itertools.pairwise(edges)]
    return pieces


def session_faults(corpus: InterviewCorpus, root: Path) -> tuple[str, ...]:
    """Return what is missing in `root`, one line each: counts first, then files by session."""
    sessions = corpus.read_sessions(root)
    faults = []
    for split, (n, positive) in corpus.counts.items():
        here = [s for s in sessions if s.split == split]
        found = (len(here), sum(s.label for s in here))
        if found != (n, positive):
            faults.append(
                f"{corpus.name} {split}: {found[0]} sessions ({found[1]} positive) instead of "
                f"{n} ({positive})"
            )
    for session in sessions:
        path = find_file(root / corpus.audio_file(session))
        if not path.is_file():
            faults.append(f"session {session.name}: {path} is missing")
    return tuple(faults)


def prepare(corpus: InterviewCorpus, root: Path, to: Path) -> tuple[str, ...]:
    """Write `to`/<name> and `to`/<name>_frames; return notes on what differs from the publication.

    Raises DataError that lists every missing audio file, and for a session without usable turns.
    """
    faults = session_faults(corpus, root)
    missing = [fault for fault in faults if fault.endswith("is missing")]
    if missing:
        raise DataError(f"{corpus.name}: {len(missing)} files:\n  " + "\n  ".join(missing))
    sessions = corpus.read_sessions(root)
    clips: dict[str, list[AffectClip]] = {split: [] for split in SPLITS}
    timed = []
    for session in sessions:
        pieces = clips_of_turns(corpus.read_turns(root, session))
        if not pieces:
            raise DataError(
                f"session {session.name}: no turn of the participant lasts {MIN_S} s or more; "
                "check its transcript"
            )
        duration = sum(piece.stop_s - piece.start_s for piece in pieces)
        timed.append(_with_duration(session, duration))
        clips[session.split] += [
            AffectClip(
                name=f"{session.name}__{i:04d}.wav",
                session=session.name,
                path=corpus.audio_file(session),
                start_s=piece.start_s,
                duration_s=round(piece.stop_s - piece.start_s, 4),
            )
            for i, piece in enumerate(pieces)
        ]
    notes = (*corpus.notes, *faults)
    for pooling, suffix in (("scene", ""), ("frames", "_frames")):
        write_task(
            to / f"{corpus.name}{suffix}",
            kind="depression",
            corpus=corpus.name,
            root=root,
            labels=LABELS,
            sessions=timed,
            clips=clips,
            pooling="frames" if pooling == "frames" else "scene",
            notes=notes,
        )
    return faults


def _with_duration(session: Session, duration_s: float) -> Session:
    return replace(session, duration_s=round(duration_s, 3))
