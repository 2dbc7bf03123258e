"""Metrics that are a ratio of two counts of every clip: errors of what is read, slots, diarization.

A clip's counts are what was found and what it is a share of: errors and symbols, say. The families
of `probe` count; the score is the ratio of the sums.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.metrics.metric import Counts, Metric, PerClip

__all__ = [
    "DIARIZATION_ERRORS",
    "JOINT_ACCURACY",
    "LETTER_ERRORS",
    "PHONE_ERRORS",
    "SLOT_TYPES",
    "SLOT_VALUE_ERRORS",
    "WORD_ERRORS",
    "error_rate_of",
    "ratio",
]

Array = npt.NDArray[Any]


def ratio(sums: Array) -> dict[str, Array]:
    """Return the first of the summed counts [..., 2] over the second, NaN where that is 0."""
    whole = sums[..., 1]
    return {"ratio": sums[..., 0] / np.where(whole > 0, whole, np.nan)}


def error_rate_of(name: str, kind: str, title: str) -> Metric:
    """Return a rate of errors: lower is better, and insertions carry it beyond 1."""
    statistic = Counts(ratio, "ratio")
    return Metric(name, title, kind, higher_is_better=False, highest=math.inf, statistic=statistic)


JOINT_ACCURACY = Metric(
    "joint_acc", "accuracy, all slots right", "slots", statistic=PerClip(binary=True)
)
PHONE_ERRORS = error_rate_of("per", "sequence", "phone error rate")
WORD_ERRORS = error_rate_of("wer", "text", "word error rate")
WORD_ERRORS_LM = error_rate_of("wer_lm", "text", "word error rate with a language model")
LETTER_ERRORS = error_rate_of("uer", "text", "letter error rate")
SLOT_TYPES = Metric("slot_type_f1", "slot-type F1", "slot_text", statistic=Counts(ratio, "ratio"))
SLOT_VALUE_ERRORS = error_rate_of("slot_value_cer", "slot_text", "slot-value letter error rate")
DIARIZATION_ERRORS = error_rate_of("der", "diarization", "diarization error rate")
