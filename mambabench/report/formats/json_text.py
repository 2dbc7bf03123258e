"""The report as one JSON object: everything that it says, in fractions."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from mambabench import __version__
from mambabench.report.formats import Format
from mambabench.report.runs import Flag

if TYPE_CHECKING:
    from mambabench.report.rows import PublishedRow, Summary
    from mambabench.report.statistics.comparison import Comparison
    from mambabench.report.view import View

__all__ = ["FORMAT", "JSON_SCHEMA", "ROW_KEYS", "as_json"]

JSON_SCHEMA = "mambabench.report/2"
ROW_KEYS = (
    "encoder",
    "task",
    "metric",
    "higher_is_better",
    "protocol",
    "n_seeds",
    "n_test",
    "mean",
    "std",
    "ci95_low",
    "ci95_high",
    "boot_low",
    "boot_high",
    "reason",
    "ties",
    "best",
    "smallest_difference",
    "flags",
    "boot_share",
    "note",
)
_OVERALL_KEYS = (
    "encoder",
    "protocol",
    "normalisation",
    "score",
    "n_tasks",
    "tasks",
    "pool",
    "n_imputed",
    "reason",
)


def as_json(summary: Summary) -> str:
    """Return the whole report as one JSON object of schema `JSON_SCHEMA`, without NaN."""

    body = {
        "schema": JSON_SCHEMA,
        "rows": [{key: _plain(getattr(row, key)) for key in ROW_KEYS} for row in summary.rows],
        "beside": [{key: _plain(getattr(row, key)) for key in ROW_KEYS} for row in summary.beside],
        "overall": [
            {key: _plain(getattr(one, key)) for key in _OVERALL_KEYS} for one in summary.overall
        ],
        "pairs": [asdict(one) for one in summary.versus],
        "ranks": [asdict(one) for one in summary.ranks],
        "costs": [asdict(one) for one in summary.costs],
        "comparisons": [_object(one) for one in summary.comparisons],
        "published": [_object(one) for one in summary.published],
        "left_out": [
            {"file": "/".join(one.path.parts[-4:]), "problem": one.problem}
            for one in summary.left_out
        ],
        "baseline": summary.baseline,
        "chosen": summary.choice.plain(),
        "version": __version__,
    }
    return json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _object(one: Comparison | PublishedRow) -> dict[str, object]:
    return {key: _plain(value) for key, value in asdict(one).items()}


def _plain(value: object) -> object:
    """Return a value as JSON has it: no infinities, flags as objects."""
    if isinstance(value, tuple):
        return [asdict(one) if isinstance(one, Flag) else one for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _render(summary: Summary, view: View) -> str:
    return as_json(summary)


FORMAT = Format("json", _render)
