"""What the page knows of every number: seeds, folds, chosen heads, clips, comparisons, hashes.

It is a JSON object that the page unpacks when a cell is opened for the first time.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.metrics import metric_of
from mambabench.errors import StoreError
from mambabench.files import read_json
from mambabench.report.names import short_task
from mambabench.report.results import group_runs
from mambabench.report.runs import Group
from mambabench.store.records import read_predictions

if TYPE_CHECKING:
    from mambabench.report.rows import Row, Summary

__all__ = ["Packed", "packed_details"]

Array = npt.NDArray[Any]
_BUDGET = 550_000  # bytes of the packed block
_LARGE = 4_500_000  # of one with more than `_MANY` clips an encoder
_MANY = 10_000


class Packed(NamedTuple):
    """The compressed block in base64, and what was left out of it."""

    text: str
    note: str


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
        return Packed(_packed(body), "Clips were left out (--page-clips none).")
    total = _add_clips(body, groups)
    most = _LARGE if total > _MANY else _BUDGET
    text = _packed(body)
    if clips == "all" or len(text) <= most:
        return Packed(text, "")
    _drop(body, ("predicted",))
    text = _packed(body)
    if len(text) <= most:
        return Packed(text, "Single predictions were left out to keep the page small.")
    _drop(body, ("right",))
    for task in body["tasks"].values():
        for name in ("names", "targets", "clusters"):
            task.pop(name, None)
    note = "Clips were left out to keep the page small; --page-clips all keeps them."
    return Packed(_packed(body), note)


def _packed(body: Mapping[str, Any]) -> str:
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _drop(body: Mapping[str, Any], names: Sequence[str]) -> None:
    for cell in body["cells"].values():
        for name in names:
            cell.pop(name, None)


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


def _add_clips(body: Mapping[str, Any], groups: Sequence[Group]) -> int:
    """Add what is known of every clip; return the most clips that an encoder has."""
    total: dict[str, int] = {}
    for group in groups:
        found = _clips(group)
        if found is None:
            continue
        names, targets, clusters, right, predicted = found
        total[group.encoder] = total.get(group.encoder, 0) + len(names)
        task = body["tasks"][group.task]
        if "targets" not in task:
            task["targets"] = targets.tolist()
            task["n_labels"] = group.runs[0].record.n_labels
            if not group.restricted:
                task["names"] = names
            if any(clusters):
                number = {name: i for i, name in enumerate(sorted(set(clusters)))}
                task["clusters"] = [number[name] for name in clusters]
            task["_names"] = names
        if task["_names"] != names:
            continue  # this encoder has other clips
        cell = body["cells"]["|".join((group.protocol, group.task, group.encoder))]
        cell["right"] = base64.b64encode(right.astype(np.uint8).tobytes()).decode()
        if group.runs[0].record.n_labels < 256:
            text = base64.b64encode(predicted.astype(np.uint8).tobytes()).decode()
            cell["predicted"] = text
    for task in body["tasks"].values():
        task.pop("_names", None)
    return max(total.values(), default=0)


def _clips(group: Group) -> tuple[list[str], Array, list[str], Array, Array] | None:
    """Return names, targets, clusters, seeds right [n] and predictions [n_seeds, n]; None where
    a clip has no single label or the predictions are not there."""
    seeds = []
    for run in group.runs:
        if not run.has_predictions or run.source != "mambabench" or not run.record.folds:
            return None
        try:
            arrays = read_predictions(run.path)
        except StoreError:
            return None  # said where the intervals are computed
        folds = [fold.fold for fold in run.record.folds]
        if any(f"{f}/probability" not in arrays or arrays[f"{f}/target"].ndim > 1 for f in folds):
            return None
        names = [f"{n}" for f in folds for n in arrays[f"{f}/clip"].tolist()]
        target = np.concatenate([arrays[f"{f}/target"] for f in folds])
        chosen = np.concatenate([arrays[f"{f}/probability"].argmax(axis=1) for f in folds])
        clusters = [
            str(n) for f in folds for n in arrays.get(f"{f}/cluster", np.array([])).tolist()
        ]
        seeds.append((names, target, clusters, chosen))
    if not seeds or any(one[0] != seeds[0][0] for one in seeds):
        return None
    names, target, clusters, _ = seeds[0]
    predicted = np.stack([one[3] for one in seeds])
    return names, target, clusters, (predicted == target).sum(axis=0), predicted
