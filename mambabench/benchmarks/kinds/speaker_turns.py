"""Who speaks when: turns, frame labels, turns from probabilities, and the error rate.

Source: s3prl 0.4.18, downstream `diarization` (after EEND, Fujita et al. 2019); the error rate is
NIST's, without collar and with overlapping speech scored, as SUPERB's scorer is called.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "MEDIANS",
    "RATE_HZ",
    "THRESHOLDS",
    "Turn",
    "chunks_of",
    "count_errors",
    "error_rate",
    "frame_labels",
    "labelled",
    "read_rttm",
    "rttm_lines",
    "segment_of",
    "speech_turns",
]

RATE_HZ = 16_000
THRESHOLDS, MEDIANS = (0.3, 0.4, 0.5, 0.6, 0.7), (1, 11)  # the settings that s3prl tries


class Turn(NamedTuple):
    """One speaker's turn; seconds from the recording's start."""

    recording: str
    start_s: float
    end_s: float
    speaker: str


@dataclass(frozen=True)
class DiarizationCounts:
    """Seconds of a recording by what became of them."""

    scored: float  # reference speaker time
    miss: float
    false_alarm: float
    error: float  # given to another speaker


def read_rttm(text: str) -> tuple[Turn, ...]:
    """Read the SPEAKER lines of an RTTM; ValueError names a line of another form."""
    turns = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        try:
            start, duration = float(fields[3]), float(fields[4])
            if not (0 <= start < math.inf and 0 <= duration < math.inf):
                raise ValueError("no time")
            turns.append(Turn(fields[1], start, start + duration, fields[7]))
        except (IndexError, ValueError) as error:
            raise ValueError(
                f"line {number}: {line!r} is not 'SPEAKER file 1 start duration <NA> <NA> speaker'"
            ) from error
    return tuple(turns)


def chunks_of(n_samples: int, shift: float, size: int) -> list[tuple[int, int]]:
    """Return the pieces [first frame, one past the last) of a recording: `size` frames each."""
    # seconds times rate, as the original counts, may fall below the samples by rounding
    n_frames = int(n_samples / RATE_HZ * RATE_HZ / shift)
    return [(first, min(first + size, n_frames)) for first in range(0, n_frames, size)]


def frame_labels(
    turns: Sequence[Turn], speakers: Sequence[str], first: int, last: int, shift: float
) -> npt.NDArray[np.float32]:
    """Return who speaks in frames first ... last - 1, float32 [n_frames, n_speakers] of 0 and 1.

    A turn covers frames rint(start rate / shift) up to, not including, rint(end rate / shift),
    halves to even. One that begins before the piece and ends after it marks nothing, as in s3prl.
    """
    labels = np.zeros((last - first, len(speakers)), np.float32)
    column = {speaker: i for i, speaker in enumerate(speakers)}
    for turn in turns:
        start = int(np.rint(turn.start_s * RATE_HZ / shift))
        end = int(np.rint(turn.end_s * RATE_HZ / shift))
        begins = first <= start < last
        ends = first < end <= last
        if begins or ends:
            low = start - first if begins else 0
            high = end - first if ends else last - first
            labels[low:high, column[turn.speaker]] = 1
    return labels


def speech_turns(
    recording: str,
    probability: npt.NDArray[np.floating],
    threshold: float,
    median: int,
    shift: float,
    *,
    rounded: bool = True,
) -> tuple[Turn, ...]:
    """Return the turns of probabilities [n_frames, n_speakers], speaker by speaker.

    Strictly above `threshold`, then a median over `median` frames with zeros beyond the ends, then
    runs. `rounded`: start and duration to two decimals, as an RTTM has them. The speaker of column
    i is called ``<recording>_<i>``.
    """
    speech = (probability > threshold).astype(np.int64)
    if median > 1:
        half = median // 2
        padded = np.pad(speech, ((half, half), (0, 0)))
        summed = np.cumsum(np.pad(padded, ((1, 0), (0, 0))), axis=0)
        speech = (summed[median:] - summed[:-median] > half).astype(np.int64)
    turns = []
    for i in range(speech.shape[1]):
        edges = np.flatnonzero(np.diff(np.pad(speech[:, i], 1)))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            start_s, length_s = start * shift / RATE_HZ, (end - start) * shift / RATE_HZ
            if rounded:
                start_s, length_s = float(f"{start_s:.2f}"), float(f"{length_s:.2f}")
            turns.append(Turn(recording, start_s, start_s + length_s, f"{recording}_{i}"))
    return tuple(turns)


def segment_of(turn: Turn) -> str:
    """Return the id of a turn in a list of segments: recording and times, not the speaker."""
    start, end = round(turn.start_s * 1000), round(turn.end_s * 1000)
    return f"{turn.recording}_{start:06d}_{end:06d}"


def labelled(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """Return the turns that label frames: of two with equal times the later speaker has both.

    So it is in s3prl, whose segments do not name their speaker; the error rate is scored against
    the turns as they are.
    """
    speaker = {segment_of(turn): turn.speaker for turn in turns}
    return tuple(turn._replace(speaker=speaker[segment_of(turn)]) for turn in turns)


def rttm_lines(turns: Iterable[Turn]) -> str:
    """Return an RTTM of turns, with two decimals."""
    return "".join(
        f"SPEAKER {t.recording} 1 {t.start_s:7.2f} {t.end_s - t.start_s:7.2f} "
        f"<NA> <NA> {t.speaker} <NA>\n"
        for t in turns
    )


def count_errors(reference: Sequence[Turn], hypothesis: Sequence[Turn]) -> DiarizationCounts:
    """Return what became of one recording's speaker time.

    Turns of one speaker that overlap are one. Speakers are mapped one to one so that most time is
    common; the time from the first onset to the last end of both sides is scored.
    """
    edges = np.unique([t for turn in (*reference, *hypothesis) for t in (turn.start_s, turn.end_s)])
    if len(edges) < 2:
        return DiarizationCounts(0.0, 0.0, 0.0, 0.0)
    spans = np.diff(edges)
    there, given = _active(reference, edges), _active(hypothesis, edges)
    common = (there[:, None] & given[None, :]).astype(
        np.float64
    ) @ spans  # [n_reference, n_hypothesis] seconds
    n_there, n_given = there.sum(axis=0), given.sum(axis=0)
    scored = float(n_there @ spans)
    miss = float(np.maximum(n_there - n_given, 0) @ spans)
    false_alarm = float(np.maximum(n_given - n_there, 0) @ spans)
    both = float(np.minimum(n_there, n_given) @ spans)
    return DiarizationCounts(scored, miss, false_alarm, both - _best_match(common))


def _active(turns: Sequence[Turn], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return [n_speakers, n_spans]: who speaks between neighbouring edges."""
    names = sorted({turn.speaker for turn in turns})
    active = np.zeros((len(names), len(edges) - 1), bool)
    for turn in turns:
        inside = (edges[:-1] >= turn.start_s) & (edges[1:] <= turn.end_s)
        active[names.index(turn.speaker)] |= inside
    return active


def _best_match(common: npt.NDArray[np.float64]) -> float:
    """Return the largest common time of a one-to-one map between rows and columns."""
    if not common.size:
        return 0.0
    if max(common.shape) > 6:
        from scipy.optimize import linear_sum_assignment

        return float(common[linear_sum_assignment(common, maximize=True)].sum())
    rows, columns = common.shape
    wide = common if rows <= columns else common.T
    picks = itertools.permutations(range(wide.shape[1]), wide.shape[0])
    return max(float(wide[np.arange(wide.shape[0]), list(pick)].sum()) for pick in picks)


def error_rate(counts: Sequence[DiarizationCounts]) -> float:
    """Return (miss + false alarm + error) / scored over all recordings; NaN without speech."""
    scored = sum(c.scored for c in counts)
    wrong = sum(c.miss + c.false_alarm + c.error for c in counts)
    return wrong / scored if scored else float("nan")
