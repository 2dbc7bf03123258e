"""What the page knows of every number: seeds, folds, chosen heads, clips, comparisons, hashes.

It is a JSON object, with comparisons and clips as bytes behind it, that the page unpacks when a
cell is opened for the first time.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mambabench.benchmarks.metrics import metric_of
from mambabench.errors import StoreError
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
from mambabench.store.records import read_predictions

if TYPE_CHECKING:
    from mambabench.report.rows import Row, Summary
    from mambabench.report.statistics.comparison import Comparison

__all__ = ["Packed", "packed_details"]

_BUDGET = (
    1_150_000  # bytes of the page: what 33 encoders on 20 tasks need; 30 on 19 need less than 1 MB
)
_LARGE = 5_000_000  # of one with more than `_MANY` clips an encoder
_MANY = 55_000  # all of HEAR's tasks have fewer
_TEXT = 5 / 4  # characters of `as_text` for a byte


class Packed(NamedTuple):
    """The compressed block as text, and what was left out of it."""

    text: str
    note: str
    clips: dict[str, TaskClips]  # that are in it


def packed_details(summary: Summary, clips: str = "auto", *, beside: int = 0) -> Packed:
    """Pack the details of every cell; per-clip data as far as the budget goes.

    `beside` are the bytes of the page without them. With "auto" predictions go first, then all
    per-clip data; "all" keeps them whatever the size.
    """
    body: dict[str, Any] = {"cells": {}, "tasks": {}}
    block = ClipBytes()
    groups = group_runs(summary.runs)
    rows = {(row.protocol, row.task, row.encoder): row for row in summary.rows}
    ranks = {(r.protocol, r.task, r.encoder): [r.rank, r.low, r.high] for r in summary.ranks}
    for group in groups:
        key = (group.protocol, group.task, group.encoder)
        body["cells"]["|".join(key)] = _cell(group, rows[key], ranks.get(key), block)
        body["tasks"].setdefault(group.task, {"title": short_task(group.task)})
    body["pairs"] = _pairs(summary, body["cells"], block)
    if clips == "none":
        note = "Clips were left out (--page-clips none)."
        return Packed(_packed(body, {}, block, predictions=False), note, {})
    found = clips_of(groups)
    most = (_LARGE if most_clips(found) > _MANY else _BUDGET) - beside
    if clips == "all" or estimated_bytes(found) < 2 * most:
        whole = _joined(body, found, block, predictions=True)
        if clips == "all" or _may_fit(whole, most):
            text = _as_packed(whole)
            if clips == "all" or len(text) <= most:
                return Packed(text, "", found)
    text = _packed(body, found, block, predictions=False)
    note = "Single predictions were left out to keep the page small; --page-clips all keeps them."
    if len(text) + 2 * len(note) <= most:  # the page says it twice
        return Packed(text, note, found)
    note = "Clips were left out to keep the page small; --page-clips all keeps them."
    return Packed(_packed(body, {}, block, predictions=False), note, {})


def _packed(
    body: Mapping[str, Any], found: dict[str, TaskClips], block: ClipBytes, *, predictions: bool
) -> str:
    return _as_packed(_joined(body, found, block, predictions=predictions))


def _joined(
    body: Mapping[str, Any], found: dict[str, TaskClips], block: ClipBytes, *, predictions: bool
) -> bytes:
    """Return what is deflated: length of the JSON (4 bytes), the JSON, the bytes."""
    block = block.copy()
    own = {
        **body,
        **{name: {k: dict(v) for k, v in body[name].items()} for name in ("cells", "tasks")},
    }
    write_clips(found, own, block, predictions=predictions)
    text = json.dumps(own, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    return len(text).to_bytes(4, "little") + text + block.bytes()


def _as_packed(data: bytes) -> str:
    return as_text(_deflated(data, 9))


def _deflated(data: bytes, level: int) -> bytes:
    # counts are noise to a search for repeats: short ones are left to the code of single bytes
    deflate = zlib.compressobj(level, zlib.DEFLATED, 15, 8, zlib.Z_DEFAULT_STRATEGY)
    return deflate.compress(data) + deflate.flush()


def _may_fit(data: bytes, most: int) -> bool:
    """Whether the thorough search for repeats, which takes seconds, may come below `most`.

    It saves a tenth over a quick one (of predictions on HEAR's tasks); it is given a quarter.
    """
    return 0.75 * _TEXT * len(_deflated(data, 4)) <= most


def as_text(data: bytes) -> str:
    """Return base 85 without the sign that begins a tag."""
    return base64.b85encode(data).replace(b"<", b",").decode()


def _short(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(f"{value:.6g}")


def _pairs(
    summary: Summary, cells: Mapping[str, Mapping[str, Any]], block: ClipBytes
) -> list[dict[str, Any]]:
    """Put the comparisons of every task into the block; return where they are.

    The page reads them back (page_details.js, `pairsIn`). Both encoders' numbers; the difference,
    less that of the means in `cells`; its distances from both ends of the interval; p. Steps are of
    10^-6, larger where a metric is; p is cut to them.
    """
    tasks: dict[tuple[str, str], list[Comparison]] = {}
    for one in summary.comparisons:
        if one.difference is not None:
            tasks.setdefault((one.protocol, one.task), []).append(one)
    found = []
    for (protocol, task), own in tasks.items():
        names = sorted({name for one in own for name in (one.encoder, one.other)})
        number = {name: i for i, name in enumerate(names)}
        means = {n: cells.get(f"{protocol}|{task}|{n}", {}).get("mean") or 0.0 for n in names}
        unit = _unit([x for c in own for x in (c.difference, c.boot_low, c.boot_high)])
        rows = []
        for one in own:
            difference = one.difference or 0.0
            rest = difference - (means[one.encoder] - means[one.other])
            low = None if one.boot_low is None else difference - one.boot_low
            high = None if one.boot_high is None else one.boot_high - difference
            p = 0 if one.p_holm is None else 1 + int(1e6 * one.p_holm)
            codes = [_code(x, unit) for x in (rest, low, high)]
            rows.append([number[one.encoder], number[one.other], *codes, p])
        places = [block.add(column, 1 << 32) for column in np.array(rows, np.int64).T]
        about = {"protocol": protocol, "task": task, "names": names, "n": len(own), "unit": unit}
        found.append({**about, "places": places})
    return found


def _unit(values: Sequence[float | None]) -> float:
    """Return how many steps 1 is divided into: 10^6, fewer where numbers are so large."""
    largest = max((abs(x) for x in values if x is not None and np.isfinite(x)), default=0.0)
    return 10.0 ** (6 - max(0, math.ceil(math.log10(max(largest, 1.0))) - 2))


def _code(value: float | None, unit: float) -> int:
    """Return a number in steps as one above 0: 0 is none, odd ones are not negative."""
    if value is None or not np.isfinite(value):
        return 0
    steps = round(unit * value)
    return 2 * steps + 1 if steps >= 0 else -2 * steps


def _folds(group: Group, block: ClipBytes) -> dict[str, Any]:
    """Put a row for every seed and fold into the block; return where, and the words in them.

    Columns: numbers of seed, fold and chosen point, epoch and score as codes and the first 32 bits
    of the head's hash (page_details.js, `foldsIn`). A score that is a share of the fold's clips is
    their number.
    """
    rows = [(number, fold) for number, run in enumerate(group.runs) for fold in run.record.folds]
    names = list(dict.fromkeys(fold.fold for _, fold in rows))
    of = dict.fromkeys(names, 0) | {fold.fold: fold.n_test for _, fold in rows}
    points = [", ".join(f"{k} {v}" for k, v in sorted(f.grid_point.items())) for _, f in rows]
    words = list(dict.fromkeys(points))
    scores = [fold.scores.get(group.metric) for _, fold in rows]
    hits = [round((x or 0.0) * of[f.fold]) for x, (_, f) in zip(scores, rows, strict=True)]
    exact = all(
        x is not None and abs(x * of[fold.fold] - n) < 1e-6
        for x, n, (_, fold) in zip(scores, hits, rows, strict=True)
    )
    unit = _unit(scores)
    columns = [
        [number for number, _ in rows],
        [names.index(fold.fold) for _, fold in rows],
        [words.index(point) for point in points],
        [_code(fold.best_epoch, 1) for _, fold in rows],
        hits if exact else [_code(score, unit) for score in scores],
        [int((fold.head_sha256 or "")[:8] or "0", 16) for _, fold in rows],
    ]
    about: dict[str, Any] = {"n": len(rows), "names": names, "chosen": words}
    about |= {"of": [of[name] for name in names]} if exact else {"unit": unit}
    return {**about, "place": block.add(np.array(columns, np.int64).ravel(), 1 << 32)}


def _labels(group: Group, block: ClipBytes) -> dict[str, Any]:
    """Put each label's matched, true and predicted events, over seeds and folds, into the block."""
    if metric_of(group.metric).kind != "event":
        return {}
    found = []
    for run in group.runs:
        try:
            arrays = read_predictions(run.path, lambda name: "/event_counts:" in name)
            for fold in run.record.folds:
                found.append(arrays[f"{fold.fold}/event_counts:{group.metric}"])
        except (StoreError, KeyError):
            return {}  # not there, or of an older version
    if not found:  # no run has a score
        return {}
    counts = np.asarray(np.sum(found, axis=0), np.int64)
    return {"labels": block.add(counts.T.ravel(), 1 << 32), "n_labels": len(counts)}


def _are_means(group: Group, row: Row) -> bool:
    """Whether every seed's score is the mean of its folds, so that the page knows it from them."""
    folds = [[f.scores.get(group.metric) for f in run.record.folds] for run in group.runs]
    return len(folds) == len(row.scores) and all(
        own and None not in own and abs(np.mean(np.array(own, np.float64)) - score) < 1e-9
        for own, score in zip(folds, row.scores, strict=True)
    )


def _cell(
    group: Group, row: Row, rank: Sequence[float | None] | None, block: ClipBytes
) -> dict[str, Any]:
    first = group.runs[0]
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
        **({} if _are_means(group, row) else {"scores": [_short(score) for score in row.scores]}),
        **{k: None if v[0] is None else [_short(x) for x in v] for k, v in ends.items()},
        "folds": _folds(group, block),
        **_labels(group, block),
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


def _made(group: Group) -> dict[str, str]:
    """Return what the first run's provenance says of time, machine and versions, if it is there."""
    run = group.runs[0]
    file = run.path.with_suffix("").with_suffix(".provenance.json")
    try:
        body = read_json(file) if file.is_file() else None
    except (OSError, ValueError):
        return {}  # beside the result, and no part of it
    if not isinstance(body, dict):
        return {}
    versions = body.get("versions")
    own = versions if isinstance(versions, dict) else {}
    machine = ("host", "cpu", "cores", "platform", "engine", "device")
    found = {
        "Ran": _when(body, run.record.seed),
        "Machine": _said({name: body.get(name) for name in machine}),
        "Versions": _said({"python": body.get("python"), **own, "commit": body.get("git_commit")}),
    }
    return {title: text for title, text in found.items() if text}


def _said(values: Mapping[str, Any]) -> str:
    """Return the names and values that are known, in one line."""
    known = ((name, value) for name, value in values.items() if isinstance(value, (str, int)))
    return ", ".join(f"{name} {value}" for name, value in known)


def _when(body: Mapping[str, Any], seed: int) -> str:
    """Return when a seed's probe began and how long it took, as far as that was recorded."""
    started, wall_s = body.get("started_unix"), body.get("wall_s")
    if not isinstance(started, (int, float)) or not isinstance(wall_s, (int, float)):
        return ""
    return (
        f"seed {seed} at {datetime.fromtimestamp(started, UTC):%Y-%m-%d %H:%M} UTC, {wall_s:.1f} s"
    )
