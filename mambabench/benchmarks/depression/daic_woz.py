"""DAIC-WOZ: 189 clinical interviews by a virtual agent, with the participant's PHQ-8.

Source: Gratch et al., "The Distress Analysis Interview Corpus" (LREC 2014), splits of the AVEC 2017
challenge. Layout as distributed: ROOT/300_P/300_AUDIO.wav and 300_TRANSCRIPT.csv, and the split
files train_split_Depression_AVEC2017.csv, dev_split_Depression_AVEC2017.csv, full_test_split.csv.
"""

from __future__ import annotations

from pathlib import Path

from mambabench.benchmarks.depression.interviews import InterviewCorpus, ParticipantTurn
from mambabench.benchmarks.depression.sessions import Session, check_sessions
from mambabench.errors import DataError
from mambabench.reading.tables import read_table

__all__ = ["CORPUS"]

THRESHOLD = 10.0  # PHQ-8, from which a session counts as positive
_FILES = {
    "train": "train_split_Depression_AVEC2017.csv",
    "valid": "dev_split_Depression_AVEC2017.csv",
    "test": "full_test_split.csv",
}
_GENDERS = {"0": "f", "1": "m"}


def read_sessions(root: Path) -> tuple[Session, ...]:
    """Read the three split files; labels come from the score, not from the binary column.

    Raises DataError with file and line for what cannot be read.
    """
    sessions = []
    for split, name in _FILES.items():
        path = root / name
        for row in read_table(path, ("Participant_ID", "Gender")):
            column = "PHQ8_Score" if "PHQ8_Score" in row else "PHQ_Score"
            if column not in row:
                raise DataError(
                    f"{path}: neither a column PHQ8_Score nor PHQ_Score; it has {', '.join(row)}"
                )
            score = row.number(column, low=0, high=24, what="PHQ-8")
            ident = str(row.whole("Participant_ID"))
            session = Session(
                name=ident,
                split=split,
                label=int(score >= THRESHOLD),
                gender=_GENDERS.get(row["Gender"]),
                speaker=ident,
                score=score,
            )
            sessions.append((row, session))
    return check_sessions(sessions)


def read_turns(root: Path, session: Session) -> tuple[ParticipantTurn, ...]:
    """Return the participant's turns of the tab-separated transcript."""
    path = root / f"{session.name}_P" / f"{session.name}_TRANSCRIPT.csv"
    if not path.is_file():
        raise DataError(f"{path} is missing; without it the interviewer cannot be left out")
    turns = []
    columns = ("start_time", "stop_time", "speaker")
    for row in read_table(path, columns, delimiter="\t", quotes=False):
        if row["speaker"].lower() == "participant":
            turns.append(
                ParticipantTurn(row.number("start_time", low=0), row.number("stop_time", low=0))
            )
    if not turns:
        raise DataError(f"{path}: no row whose speaker is Participant")
    return tuple(turns)


def _audio(session: Session) -> str:
    return f"{session.name}_P/{session.name}_AUDIO.wav"


CORPUS = InterviewCorpus(
    name="daic_woz",
    counts={"train": (107, 31), "valid": (35, 12), "test": (47, 14)},
    read_sessions=read_sessions,
    audio_file=_audio,
    read_turns=read_turns,
    notes=("positive: PHQ-8 score of 10 or more; the binary column errs for one session",),
)
