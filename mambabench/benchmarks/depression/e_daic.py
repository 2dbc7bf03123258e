"""E-DAIC: 275 interviews, some held by an autonomous agent, with the participant's PHQ-8.

Source: Ringeval et al., "AVEC 2019 Workshop and Challenge" (detection of depression sub-challenge).
Layout as distributed: ROOT/labels/{train,dev,test}_split.csv, ROOT/300_P/300_AUDIO.wav and
300_Transcript.csv, whose rows are recognised speech of the participant.
"""

from __future__ import annotations

from pathlib import Path

from mambabench.benchmarks.depression.interviews import InterviewCorpus, ParticipantTurn
from mambabench.benchmarks.depression.sessions import Session, check_sessions
from mambabench.errors import DataError
from mambabench.reading.tables import read_table

__all__ = ["CORPUS"]

THRESHOLD = 10.0
_FILES = {"train": "train_split.csv", "valid": "dev_split.csv", "test": "test_split.csv"}
_GENDERS = {"female": "f", "male": "m", "f": "f", "m": "m"}


def _split_file(root: Path, name: str) -> Path:
    return root / "labels" / name if (root / "labels").is_dir() else root / name


def read_sessions(root: Path) -> tuple[Session, ...]:
    """Read the three split files; raises DataError with file and line for what cannot be read."""
    sessions = []
    for split, name in _FILES.items():
        path = _split_file(root, name)
        columns = ("Participant_ID", "Gender", "PHQ_Score")
        for row in read_table(path, columns):
            score = row.number("PHQ_Score", low=0, high=24, what="PHQ-8")
            ident = str(row.whole("Participant_ID"))
            session = Session(
                name=ident,
                split=split,
                label=int(score >= THRESHOLD),
                gender=_GENDERS.get(row["Gender"].lower()),
                speaker=ident,
                score=score,
            )
            sessions.append((row, session))
    return check_sessions(sessions)


def read_turns(root: Path, session: Session) -> tuple[ParticipantTurn, ...]:
    """Return the recognised turns of the participant."""
    path = root / f"{session.name}_P" / f"{session.name}_Transcript.csv"
    rows = read_table(path, ("Start_Time", "End_Time"))
    turns = tuple(
        ParticipantTurn(row.number("Start_Time", low=0), row.number("End_Time", low=0))
        for row in rows
    )
    if not turns:
        raise DataError(f"{path}: no rows")
    return turns


def _audio(session: Session) -> str:
    return f"{session.name}_P/{session.name}_AUDIO.wav"


CORPUS = InterviewCorpus(
    name="e_daic",
    counts={"train": (163, 37), "valid": (56, 12), "test": (56, 17)},
    read_sessions=read_sessions,
    audio_file=_audio,
    read_turns=read_turns,
    notes=("positive: PHQ-8 score of 10 or more",),
)
