"""Slot filling's scores from marked-up texts: which types were found, and how their values read.

A slot is ``B-type value E-type``. Source: s3prl 0.4.18, `downstream/ctc/metric.py`; SUPERB (Yang et
al. 2021), section 2. Texts are compared as s3prl compares them, its quirks included; where it
raises (a value with ``:`` or ``;``, no reference at all) there is a score here, or NaN.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from mambabench.benchmarks.metrics.edit_distance import edit_distance_of

__all__ = [
    "Slot",
    "edit_f1",
    "found_slots",
    "text_error_rate",
    "type_f1",
    "type_f1_of",
    "unmarked",
    "value_errors",
    "value_rate",
]

_SLOT = re.compile(r"B\-(\S+) (.+?) E\-\1")
_MARKS = (re.compile(r"B\-(\S+) "), re.compile(r" E\-(\S+)"))


class Slot(NamedTuple):
    """One slot of a text."""

    kind: str
    value: str


def unmarked(text: str) -> str:
    """Return a text without slot markers; runs of spaces become one."""
    text = re.sub(r" +", " ", text)
    for mark in _MARKS:
        text = mark.sub("", text)
    return text


def found_slots(text: str, *, hypothesis: bool) -> tuple[Slot, ...]:
    """Return the slots of a text, left to right, none in another.

    Further markers in the values of a hypothesis are taken out, those in a reference are not.
    """
    slots = _SLOT.findall(re.sub(r" +", " ", text))
    return tuple(Slot(kind, unmarked(value) if hypothesis else value) for kind, value in slots)


def _by_kind(slots: Sequence[Slot]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for slot in slots:
        values.setdefault(slot.kind, []).append(slot.value)
    return values


def type_f1_of(reference: str, hypothesis: str) -> float:
    """Return the F1 of one utterance's set of slot types; 1 where neither text has a slot."""
    wanted = {slot.kind for slot in found_slots(reference, hypothesis=False)}
    given = {slot.kind for slot in found_slots(hypothesis, hypothesis=True)}
    if not wanted and not given:
        return 1.0
    if not wanted or not given:
        return 0.0
    precision = len(given & wanted) / len(given)
    recall = len(wanted & given) / len(wanted)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def type_f1(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Return the mean over utterances; NaN where there is none."""
    values = [type_f1_of(r, h) for r, h in zip(references, hypotheses, strict=True)]
    return sum(values) / len(values) if values else math.nan


def value_errors(reference: str, hypothesis: str, *, words: bool = False) -> tuple[int, int]:
    """Return (distance, reference length) over the slots of one reference.

    Letters, or with `words` what stands between single spaces. A slot whose type the hypothesis
    lacks is compared with nothing, another with the value of its type that has the lowest rate (the
    first of equals); slots that the hypothesis has beyond that cost nothing.
    """

    def tokens(value: str) -> Sequence[str]:
        return value.split(" ") if words else value

    given = _by_kind(found_slots(hypothesis, hypothesis=True))
    errors = length = 0
    for kind, values in _by_kind(found_slots(reference, hypothesis=False)).items():
        for value in values:
            wanted = tokens(value)
            # s3prl looks for less than 100, and compares with nothing where all are above
            offered = [edit_distance_of(wanted, tokens(other)) for other in given.get(kind, [])]
            nearest = min(offered, default=None)
            if nearest is None or nearest / len(wanted) >= 100:
                nearest = edit_distance_of(wanted, tokens(""))
            errors += nearest
            length += len(wanted)
    return errors, length


def value_rate(
    references: Sequence[str], hypotheses: Sequence[str], *, words: bool = False
) -> float:
    """Return summed distance / summed reference length; NaN where no reference has a slot."""
    pairs = zip(references, hypotheses, strict=True)
    errors, lengths = 0, 0
    for reference, hypothesis in pairs:
        found = value_errors(reference, hypothesis, words=words)
        errors, lengths = errors + found[0], lengths + found[1]
    return errors / lengths if lengths else math.nan


def edit_f1(references: Sequence[str], hypotheses: Sequence[str], *, full: bool) -> float:
    """Return the F1 of exact values in per cent, over all utterances; NaN where nothing counts.

    A wrong value is a miss and a false alarm. With `full` values of types that the reference lacks
    are false alarms; else they cost nothing.
    """
    hits = misses = false_alarms = 0
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        wanted = _by_kind(found_slots(reference, hypothesis=False))
        given = _by_kind(found_slots(hypothesis, hypothesis=True))
        for kind, values in wanted.items():
            for value in values:
                if kind not in given:
                    misses += 1
                elif value in given[kind]:
                    hits += 1
                else:
                    misses += 1
                    false_alarms += 1
        if full:
            false_alarms += sum(len(v) for kind, v in given.items() if kind not in wanted)
    counted = 2 * hits + misses + false_alarms
    return 100.0 * 2 * hits / counted if counted else math.nan


def text_error_rate(references: Sequence[str], hypotheses: Sequence[str], *, words: bool) -> float:
    """Return the error rate of marked-up texts as they stand: a wrong marker is a wrong word."""
    errors = length = 0
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        wanted: Sequence[str] = reference.split(" ") if words else reference
        given: Sequence[str] = hypothesis.split(" ") if words else hypothesis
        errors += edit_distance_of(wanted, given)
        length += len(wanted)
    return errors / length if length else math.nan
