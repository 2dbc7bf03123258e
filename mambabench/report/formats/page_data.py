"""What the page knows of every number: seeds, folds, chosen heads, clips, comparisons, hashes.

It is a JSON object, with the clips as bytes behind it, that the page unpacks when a cell is opened
for the first time.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mambabench.benchmarks.metrics import metric_of
from mambabench.files import read_json
from mambabench.report.formats.page_clips import (
    ClipBytes,
    TaskClips,
    clips_of,
    estimated_bytes,
    most_clips,
    write_clips,
)
from mambabench.report.names import short_task
from mambabench.report.results import group_runs
from mambabench.report.runs import Group

if TYPE_CHECKING:
    from mambabench.report.rows import Row, Summary

__all__ = ["Packed", "packed_details"]

_BUDGET = 550_000  # bytes of the packed block
_LARGE = 4_500_000  # of one with more than `_MANY` clips an encoder
_MANY = 10_000


class Packed(NamedTuple):
    """The compressed block in base64, and what was left out of it."""

    text: str
    note: str
    clips: dict[str, TaskClips]  # that are in it


def packed_details(summary: Summary, clips: str = "auto") -> Packed:
    """Pack the details of every cell; per-clip data as far as the budget goes.

    With "auto" predictions go first, then all per-clip data; "all" keeps them whatever the size.
    """
    body: dict[str, Any] = {"cells": {}, "tasks": {}, "pairs": _pairs(summary)}
    groups = group_runs(summary.runs)
    rows = {(row.protocol, row.task, row.encoder): row for row in summary.rows}
    ranks = {(r.protocol, r.task, r.encoder): [r.rank, r.low, r.high] for r in summary.ranks}
    for group in groups:
        key = (group.protocol, group.task, group.encoder)
        body["cells"]["|".join(key)] = _cell(group, rows[key], ranks.get(key))
        body["tasks"].setdefault(group.task, {"title": short_task(group.task)})
    if clips == "none":
        note = "Clips were left out (--page-clips none)."
        return Packed(_packed(body, {}, predictions=False), note, {})
    found = clips_of(groups)
    most = _LARGE if most_clips(found) > _MANY else _BUDGET
    if clips == "all" or estimated_bytes(found) < 2 * most:
        text = _packed(body, found, predictions=True)
        if clips == "all" or len(text) <= most:
            return Packed(text, "", found)
    text = _packed(body, found, predictions=False)
    if len(text) <= most:
        note = (
            "Single predictions were left out to keep the page small; --page-clips all keeps them."
        )
        return Packed(text, note, found)
    note = "Clips were left out to keep the page small; --page-clips all keeps them."
    return Packed(_packed(body, {}, predictions=False), note, {})


def _packed(body: Mapping[str, Any], found: dict[str, TaskClips], *, predictions: bool) -> str:
    """Return base64 of what is deflated: length of the JSON (4 bytes), the JSON, the clips."""
    block = ClipBytes()
    own = {
        **body,
        **{name: {k: dict(v) for k, v in body[name].items()} for name in ("cells", "tasks")},
    }
    write_clips(found, own, block, predictions=predictions)
    text = json.dumps(own, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    data = len(text).to_bytes(4, "little") + text + block.bytes()
    return base64.b64encode(zlib.compress(data, 9)).decode()


def _short(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(f"{value:.6g}")


def _pairs(summary: Summary) -> list[list[Any]]:
    return [
        [
            *(one.protocol, one.task, one.encoder, one.other),
            *(_short(x) for x in (one.difference, one.boot_low, one.boot_high, one.p_holm)),
        ]
        for one in summary.comparisons
        if one.difference is not None
    ]


def _cell(group: Group, row: Row, rank: Sequence[float | None] | None) -> dict[str, Any]:
    first = group.runs[0]
    folds = []
    for run in group.runs:
        for fold in run.record.folds:
            chosen = ", ".join(f"{k} {v}" for k, v in sorted(fold.grid_point.items()))
            head = None if fold.head_sha256 is None else fold.head_sha256[:12]
            score = _short(fold.scores.get(run.record.metric))
            folds.append([run.record.seed, fold.fold, score, chosen, fold.best_epoch, head])
    ends = {"boot": (row.boot_low, row.boot_high), "ci": (row.ci95_low, row.ci95_high)}
    return {
        "name": group.encoder,
        "task": group.task,
        "protocol": group.protocol,
        "metric": group.metric,
        "scale": 100 if metric_of(group.metric).share else 1,
        "mean": _short(row.mean),
        "n_test": row.n_test,
        "ties": row.ties,
        "flags": [flag.text for flag in row.flags],
        "reason": row.reason,
        "rank": rank,
        "seeds": list(group.seeds),
        "scores": [_short(score) for score in row.scores],
        **{k: None if v[0] is None else [_short(x) for x in v] for k, v in ends.items()},
        "folds": folds,
        "command": _command(group),
        "path": "/".join(first.path.parts[-5:-1]) + "/seed-*.json",
        "identity": group.identity,
        "digest": first.digest,
        "made": _made(group),
    }


def _command(group: Group) -> str:
    """Return the command that makes a number again, from the same store."""
    from shlex import quote

    record = group.runs[0].record
    protocol, _, grid = record.protocol.removesuffix("+exact").partition("/")
    parts = ["mambabench probe --encoder", quote(record.encoder), "--task", quote(record.task)]
    parts += ["--protocol", protocol, "--seeds", str(max(group.seeds) + 1)]
    parts += ["--grid", grid] if grid else []
    parts += ["--exact"] if record.protocol.endswith("+exact") else []
    return " ".join(parts)


def _made(group: Group) -> str:
    """Return what the first run's provenance says of machine and versions, if it is there."""
    file = group.runs[0].path.with_suffix("").with_suffix(".provenance.json")
    if not file.is_file():
        return ""
    try:
        body = read_json(file)
    except (OSError, ValueError):
        return ""  # beside the result, and no part of it
    words = []
    for name in ("date", "host", "cpu", "platform", "python", "git_commit", "engine", "device"):
        value = body.get(name) if isinstance(body, dict) else None
        if isinstance(value, (str, int, float)):
            words.append(f"{name} {value}")
    return ", ".join(words)
