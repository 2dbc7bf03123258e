"""Flags: what a reader must know of a number before comparing it, in every format of the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mambabench.report.runs import Flag
from mambabench.report.versions import OLDER
from mambabench.store.small_sets import hardly_trained

if TYPE_CHECKING:
    from mambabench.report.runs import Run
    from mambabench.store.records import RunRecord

__all__ = ["LETTERS", "flags_of", "letters", "unsound"]

# code -> the letter printed behind the number
LETTERS = {
    "clips-left-out": "C",
    "reduced-precision": "P",
    "upsampled": "R",
    "limited": "L",
    "few-steps": "S",
    "changed": "X",
    OLDER: "V",
}
_NEVER_BEST = ("changed", OLDER)


def letters(flags: Iterable[Flag]) -> str:
    """Return the flags as printed behind a number: " [CP]", or nothing."""
    codes = {flag.code for flag in flags}
    found = "".join(letter for code, letter in LETTERS.items() if code in codes)
    return f" [{found}]" if found else ""


def unsound(flags: Iterable[Flag]) -> bool:
    """Whether a number is not what its run came to, so that it can be no best one."""
    return any(flag.code in _NEVER_BEST for flag in flags)


def flags_of(runs: Sequence[Run]) -> tuple[Flag, ...]:
    """Return the flags of a row: those of its runs' records and those found at reading, each once.

    A text that differs between the seeds is given for the first of them.
    """
    found: dict[str, Flag] = {}
    for run in runs:
        for flag in (*_of_record(run.record), *run.flags):
            found.setdefault(flag.code, flag)
    return tuple(found[code] for code in LETTERS if code in found)


def _of_record(record: RunRecord) -> list[Flag]:
    flags = []
    if record.missing:
        n = len(record.missing)
        flags.append(Flag("clips-left-out", f"{n} clip{'s' if n > 1 else ''} left out"))
    if record.precision not in ("", "fp32"):
        flags.append(Flag("reduced-precision", f"encoder computed in {record.precision}"))
    source, wanted = record.resampled_from_hz, record.sample_rate_hz
    if source is not None and wanted is not None and source < wanted:
        flags.append(
            Flag("upsampled", f"audio of {source} Hz, upsampled to the encoder's {wanted} Hz")
        )
    if record.limited:
        flags.append(Flag("limited", f"limited run: {record.limited}"))
    if (text := hardly_trained(record)) is not None:
        flags.append(Flag("few-steps", text))
    return flags
