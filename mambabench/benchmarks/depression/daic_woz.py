"""DAIC-WOZ: 189 clinical interviews by a virtual agent, with the participant's PHQ-8.

Source: Gratch et al., "The Distress Analysis Interview Corpus" (LREC 2014), splits of the AVEC 2017
challenge. Layout as distributed: ROOT/300_P/300_AUDIO.wav and 300_TRANSCRIPT.csv, and the split
files train_split_Depression_AVEC2017.csv, dev_split_Depression_AVEC2017.csv, full_test_split.csv.
"""

from __future__ import annotations

import csv
from pathlib import Path

from mambabench.benchmarks.depression.interviews import InterviewCorpus, Turn
from mambabench.benchmarks.depression.sessions import Session, read_table
from mambabench.errors import DataError

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
        for line, row in enumerate(read_table(path, ("Participant_ID", "Gender")), start=2):
            text = row.get("PHQ8_Score", row.get("PHQ_Score", ""))
            try:
                score = float(text)
                ident = str(int(float(row["Participant_ID"])))
            except ValueError as error:
                raise DataError(f"{path}, line {line}: {error}") from error
            sessions.append(
                Session(
                    name=ident,
                    split=split,
                    label=int(score >= THRESHOLD),
                    gender=_GENDERS.get(row["Gender"]),
                    speaker=ident,
                    score=score,
                )
            )
    return tuple(sessions)


def read_turns(root: Path, session: Session) -> tuple[Turn, ...]:
    """Return the participant's turns of the tab-separated transcript."""
    path = root / f"{session.name}_P" / f"{session.name}_TRANSCRIPT.csv"
    if not path.is_file():
        raise DataError(f"{path} is missing; without it the interviewer cannot be left out")
    turns = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if (row.get("speaker") or "").strip().lower() != "participant":
                continue
            turns.append(Turn(float(row["start_time"]), float(row["stop_time"])))
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
