"""Flags: what a reader must know of a number before comparing it, in every format of the report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mambabench.report.runs import Flag
from mambabench.report.versions import OLDER
from mambabench.store.small_sets import hardly_trained

if TYPE_CHECKING:
    from mambabench.report.runs import Run
    from mambabench.store.records import RunRecord

__all__ = ["LETTERS", "flags_of", "letters", "single", "unsound"]

# code -> the letter printed behind the number
LETTERS = {
    "clips-left-out": "C",
    "reduced-precision": "P",
    "upsampled": "R",
    "limited": "L",
    "few-steps": "S",
    "too-few-frames": "F",
    "changed": "X",
    OLDER: "V",
}
_NEVER_BEST = ("changed", OLDER)


def letters(flags: Iterable[Flag]) -> str:
    """Return the flags as printed behind a number: " [CP]", " [F12%]", or nothing."""
    shown = {flag.code: flag.shown for flag in flags}
    found = "".join(letter + shown[code] for code, letter in LETTERS.items() if code in shown)
    return f" [{found}]" if found else ""


def single(printed: str) -> list[str]:
    """Return flags printed together one by one: "CF12%" as C and F12%."""
    return re.findall(r"[A-Z][^A-Z]*", printed)


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
    if share := _targets_longer_than_frames(record):
        said = _percent(share)
        flags.append(
            Flag(
                "too-few-frames",
                f"{said} of the test clips have a target with more symbols than the encoder has "
                "frames: no head can spell them. --hop-ms takes shifted windows",
                said.replace(" ", ""),
            )
        )
    return flags


def _targets_longer_than_frames(record: RunRecord) -> float:
    """Return the share over all folds; 0 where the record's heads spell nothing."""
    parts = [
        (share, fold.n_test or 0)
        for fold in record.folds
        if isinstance(share := fold.grid_point.get("targets_longer_than_frames"), int | float)
    ]
    return sum(share * n for share, n in parts) / max(1, sum(n for _, n in parts))


def _percent(share: float) -> str:
    """Return a share in whole percent; what is not all or nothing is not printed as that."""
    if 0 < share < 0.01:
        return "< 1 %"
    return "> 99 %" if 0.99 < share < 1 else f"{100 * share:.0f} %"
