"""What each encoder of a report costs: parameters, operations and time for a second of audio.

Time is that of extraction, as the stores' provenance has it; parameters are those of the catalogue.
A table of the user's own comes before both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.errors import nearest_names
from mambabench.files import read_json
from mambabench.models.registry import find_entry, is_registered
from mambabench.reading.tables import read_table
from mambabench.report.catalogued import store_of
from mambabench.report.results import group_runs
from mambabench.report.rows import EncoderCost
from mambabench.report.runs import Group
from mambabench.store.seal import PROVENANCE

if TYPE_CHECKING:
    from mambabench.report.rows import Summary

__all__ = ["COLUMNS", "audio_hours", "costs_of", "front", "read_costs"]

COLUMNS = {
    "parameters": "parameters",
    "gflops": "GFLOPs per second of audio",
    "seconds": "seconds per second of audio",
}


def read_costs(file: Path, known: Sequence[str]) -> dict[str, EncoderCost]:
    """Read a CSV of `encoder` and any of `COLUMNS`: encoder -> its costs.

    `known` are the encoders of the report. DataError, naming file and line, for an encoder that is
    none of them or stands twice, and for what is no number above 0; an empty field is not known.
    """
    found: dict[str, EncoderCost] = {}
    for row in read_table(file, ("encoder",)):
        name = row["encoder"]
        if name in found:
            raise row.wrong("encoder", "which stands there twice: keep one")
        if name not in known:
            raise row.wrong("encoder", f"which is none of this report{nearest_names(name, known)}")
        numbers = {
            column: row.number(column, low=1e-12, what="a number above 0")
            for column in COLUMNS
            if row.get(column, "").strip()
        }
        found[name] = EncoderCost(name, **numbers)
    return found


def costs_of(summary: Summary, file: Path | None = None) -> tuple[EncoderCost, ...]:
    """Return the costs of every encoder of which something is known, by name.

    The time is over all stores of an encoder that its records lie beside; None where they were made
    on different devices or in different precisions, whose times do not belong into one number.
    """
    encoders = sorted({row.encoder for row in summary.rows})
    given = {} if file is None else read_costs(file, encoders)
    names = dict(summary.catalogued)
    groups: dict[str, list[Group]] = {}
    for group in group_runs(summary.runs):
        groups.setdefault(group.encoder, []).append(group)
    costs = []
    for encoder in encoders:
        own, members = given.get(encoder, EncoderCost(encoder)), groups.get(encoder, [])
        one = EncoderCost(
            encoder,
            own.parameters or _parameters(names.get(encoder)),
            own.gflops,
            own.seconds or _seconds(members),
        )
        if (one.parameters, one.gflops, one.seconds) != (None, None, None):
            costs.append(one)
    return tuple(costs)


def _parameters(name: str | None) -> float | None:
    """Return the elements of the tensors of the published file, where the catalogue knows them."""
    if name is None or not is_registered(name):
        return None
    return float(find_entry(name).n_parameters) or None


def _seconds(groups: Sequence[Group]) -> float | None:
    """Return the seconds that one worker took for a second of audio, over all stores."""
    files = {file for group in groups if (file := _store_file(group)) is not None}
    runs = [one for file in sorted(files) if (one := _run(file))]
    audio = sum(float(one["audio_s"]) for one in runs)
    if audio <= 0 or len({(one["device"], one.get("precision")) for one in runs}) != 1:
        return None
    return sum(float(one["worker_s"]) for one in runs) / audio


def audio_hours(summary: Summary) -> float | None:
    """Return the hours of audio in all splits of all tasks, as the stores beside the records say.

    None where no store of a task says so: those of older versions do not.
    """
    known: dict[str, float | None] = {}
    for group in group_runs(summary.runs):
        if known.get(group.task) is None:
            file = _store_file(group)
            audio_s = _stated(file).get("task_audio_s") if file is not None else None
            known[group.task] = audio_s if isinstance(audio_s, (int, float)) else None
    hours = [audio_s / 3600 for audio_s in known.values() if audio_s is not None]
    return sum(hours) if hours and len(hours) == len(known) else None


def _store_file(group: Group) -> Path | None:
    """Return what is recorded of the extraction that a group's records lie beside, if it is."""
    store = store_of(group)
    file = store and store / PROVENANCE
    return file if file and file.is_file() else None


def _stated(file: Path) -> dict[str, Any]:
    """Return what an extraction recorded of itself; {} where nothing is: it is no result."""
    try:
        return dict(read_json(file)["run"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _run(file: Path) -> dict[str, Any]:
    """Return what an extraction took; {} where the file does not say so."""
    run = _stated(file)
    known = all(isinstance(run.get(name), (int, float)) for name in ("audio_s", "worker_s"))
    return run if known and run["worker_s"] > 0 and "device" in run else {}


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the encoders that no other beats in cost and score at once, the cheapest first.

    `points` are cost and score; of equal ones all stay.
    """
    order = sorted(points, key=lambda name: (points[name][0], -points[name][1], name))
    kept: list[str] = []
    best, cheapest = -math.inf, math.inf
    for name in order:
        cost, score = points[name]
        if score > best or (score == best and cost == cheapest):
            kept.append(name)
            best, cheapest = score, cost
    return kept
